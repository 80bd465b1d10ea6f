package clients;

import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;

final class OkHttpSocket {
    static void run(Place place) throws Exception {
        // Its own pings find a way that is dead.
        var http = new OkHttpClient.Builder().pingInterval(Duration.ofSeconds(25)).build();
        for (;; Thread.sleep(1000)) {
            var ended = new CountDownLatch(1);
            var request = new Request.Builder().url(place.uri().toString().replaceFirst("^ws", "http")).build();
            http.newWebSocket(request, new WebSocketListener() {
                @Override
                public void onMessage(WebSocket socket, String text) {
                    place.take(text);
                }

                @Override
                public void onClosing(WebSocket socket, int code, String reason) {
                    socket.close(1000, null); // else it stays half open
                }

                @Override
                public void onClosed(WebSocket socket, int code, String reason) {
                    ended.countDown();
                }

                @Override
                public void onFailure(WebSocket socket, Throwable error, Response response) {
                    ended.countDown();
                }
            });
            ended.await();
        }
    }
}
