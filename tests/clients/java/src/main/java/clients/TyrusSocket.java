package clients;

import jakarta.websocket.ClientEndpointConfig;
import jakarta.websocket.CloseReason;
import jakarta.websocket.DeploymentException;
import jakarta.websocket.Endpoint;
import jakarta.websocket.EndpointConfig;
import jakarta.websocket.MessageHandler;
import jakarta.websocket.Session;
import java.util.concurrent.CountDownLatch;
import org.glassfish.tyrus.client.ClientManager;

final class TyrusSocket {
    static void run(Place place) throws Exception {
        var client = ClientManager.createClient();
        for (;; Thread.sleep(1000)) {
            var ended = new CountDownLatch(1);
            try {
                client.connectToServer(new Endpoint() {
                    @Override
                    public void onOpen(Session session, EndpointConfig config) {
                        // Answers pings by itself; not a lambda, whose type it could not find.
                        session.addMessageHandler(new MessageHandler.Whole<String>() {
                            @Override
                            public void onMessage(String text) {
                                place.take(text);
                            }
                        });
                    }

                    @Override
                    public void onClose(Session session, CloseReason reason) {
                        ended.countDown();
                    }
                }, ClientEndpointConfig.Builder.create().build(), place.uri());
                ended.await();
            } catch (DeploymentException away) {
                // tried again
            }
        }
    }
}
