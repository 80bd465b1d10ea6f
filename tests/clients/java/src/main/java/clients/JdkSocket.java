package clients;

import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

final class JdkSocket {
    static void run(Place place) throws Exception {
        var http = HttpClient.newHttpClient();
        for (;; Thread.sleep(1000)) {
            var ended = new CountDownLatch(1);
            try {
                var socket = http.newWebSocketBuilder().buildAsync(place.uri(), new Listener(place, ended)).join();
                // Nothing tells of a way that is dead: a request does, each 25 s.
                while (!ended.await(25, TimeUnit.SECONDS)) socket.sendText("{\"op\":\"ping\"}", true).join();
                socket.abort();
            } catch (CompletionException away) {
                // tried again
            }
        }
    }

    private record Listener(Place place, CountDownLatch ended, StringBuilder text) implements WebSocket.Listener {
        Listener(Place place, CountDownLatch ended) {
            this(place, ended, new StringBuilder());
        }

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence part, boolean last) {
            text.append(part); // a message may come in parts
            if (last) {
                place.take(text.toString());
                text.setLength(0);
            }
            socket.request(1); // else nothing more comes, and no ping is answered
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            ended.countDown();
            return null;
        }

        @Override
        public void onError(WebSocket socket, Throwable error) {
            ended.countDown();
        }
    }
}
