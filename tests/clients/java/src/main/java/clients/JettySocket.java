package clients;

import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import org.eclipse.jetty.websocket.api.Callback;
import org.eclipse.jetty.websocket.api.Session;
import org.eclipse.jetty.websocket.client.WebSocketClient;

final class JettySocket {
    static void run(Place place) throws Exception {
        var client = new WebSocketClient();
        client.setIdleTimeout(Duration.ofMinutes(1)); // 5 minutes otherwise; a ping comes every 25 s
        client.setMaxTextMessageSize(1 << 20); // 64 KiB otherwise
        client.start();
        for (;; Thread.sleep(1000)) {
            var listener = new Listener(place, new CountDownLatch(1));
            try {
                client.connect(listener, place.uri()).get();
                listener.ended.await();
            } catch (ExecutionException away) {
                // tried again
            }
        }
    }

    /** Public, for Jetty calls it from outside of this package. */
    public record Listener(Place place, CountDownLatch ended) implements Session.Listener.AutoDemanding {
        @Override
        public void onWebSocketText(String text) {
            place.take(text);
        }

        @Override
        public void onWebSocketClose(int code, String reason, Callback callback) {
            callback.succeed();
            ended.countDown();
        }
    }
}
