package clients;

import com.launchdarkly.eventsource.ConnectStrategy;
import com.launchdarkly.eventsource.ErrorStrategy;
import com.launchdarkly.eventsource.EventSource;
import com.launchdarkly.eventsource.MessageEvent;
import java.net.URI;
import java.util.concurrent.TimeUnit;

final class OkHttpEvents {
    static void run(String base, Place place) throws Exception {
        var connect = ConnectStrategy.http(URI.create(base + "/v1/sse?topic=clients.%3E&format=data"))
            .readTimeout(1, TimeUnit.MINUTES); // a heartbeat comes every 25 s
        // Always, for it would end at the first cut otherwise. It keeps Last-Event-ID.
        var source = new EventSource.Builder(connect).errorStrategy(ErrorStrategy.alwaysContinue()).build();
        for (MessageEvent event : source.messages()) {
            if (event.getEventName().equals("fanfare.live")) place.live();
            else if (event.getEventName().equals("message")) place.handle(event.getData());
        }
    }
}
