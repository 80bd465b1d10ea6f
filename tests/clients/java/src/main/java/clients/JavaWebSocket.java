package clients;

import org.java_websocket.client.WebSocketClient;
import org.java_websocket.handshake.ServerHandshake;

final class JavaWebSocket {
    static void run(Place place) throws Exception {
        for (;; Thread.sleep(1000)) {
            // A client is good for one connection: `reconnect` would keep the old cursor in the URI.
            var client = new WebSocketClient(place.uri()) {
                @Override
                public void onOpen(ServerHandshake answer) { }

                @Override
                public void onMessage(String text) {
                    place.take(text);
                }

                @Override
                public void onClose(int code, String reason, boolean byBroker) { }

                @Override
                public void onError(Exception error) { }
            };
            client.setConnectionLostTimeout(30); // its own pings find a way that is dead
            client.run(); // until it is over
        }
    }
}
