package clients;

import java.time.Duration;
import reactor.core.publisher.Mono;
import reactor.netty.http.client.HttpClient;
import reactor.netty.http.client.WebsocketClientSpec;

final class ReactorNettySocket {
    static void run(Place place) {
        // 64 KiB otherwise. Pings are answered by itself, also where `handlePing` is not set.
        var spec = WebsocketClientSpec.builder().maxFramePayloadLength(1 << 20).build();
        Mono.defer(() -> HttpClient.create().websocket(spec).uri(place.uri())
                .handle((in, out) -> in.aggregateFrames(1 << 20).receive().asString().doOnNext(place::take).then())
                .then())
            .onErrorComplete()
            // Anew from the cursor of then, whether it ended in order or not.
            .then(Mono.delay(Duration.ofSeconds(1)))
            .repeat()
            .blockLast();
    }
}
