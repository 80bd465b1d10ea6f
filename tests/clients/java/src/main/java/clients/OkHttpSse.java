package clients;

import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.sse.EventSource;
import okhttp3.sse.EventSourceListener;
import okhttp3.sse.EventSources;

final class OkHttpSse {
    static void run(String base, Place place) throws Exception {
        // 10 s otherwise, and a heartbeat comes every 15 s.
        var http = new OkHttpClient.Builder().readTimeout(Duration.ofMinutes(1)).build();
        var last = new AtomicReference<String>();
        for (;; Thread.sleep(1000)) {
            var ended = new CountDownLatch(1);
            var request = new Request.Builder().url(base + "/v1/sse?topic=clients.%3E&format=data");
            if (last.get() != null) request.header("Last-Event-ID", last.get());
            EventSources.createFactory(http).newEventSource(request.build(), new EventSourceListener() {
                @Override
                public void onEvent(EventSource source, String id, String type, String data) {
                    if ("fanfare.live".equals(type)) place.live();
                    else if (type == null) place.handle(data);
                    if (id != null) last.set(id); // now that it was handled
                }

                @Override
                public void onClosed(EventSource source) {
                    ended.countDown();
                }

                @Override
                public void onFailure(EventSource source, Throwable error, Response response) {
                    ended.countDown();
                }
            });
            ended.await(); // it does not come back by itself
        }
    }
}
