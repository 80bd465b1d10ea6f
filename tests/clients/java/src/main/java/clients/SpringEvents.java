package clients;

import java.net.URI;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicReference;
import org.springframework.core.ParameterizedTypeReference;
import org.springframework.http.client.reactive.ReactorClientHttpConnector;
import org.springframework.http.codec.ServerSentEvent;
import org.springframework.web.reactive.function.client.WebClient;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.netty.http.client.HttpClient;

final class SpringEvents {
    static void run(String base, Place place) {
        // Of silence, and none otherwise; a heartbeat comes every 15 s.
        var netty = HttpClient.create().responseTimeout(Duration.ofMinutes(1));
        var http = WebClient.builder().clientConnector(new ReactorClientHttpConnector(netty)).build();
        // A URI, for of a text the `%` would be encoded again.
        var uri = URI.create(base + "/v1/sse?topic=clients.%3E&format=data");
        var last = new AtomicReference<String>();
        Flux.defer(() -> http.get().uri(uri)
                .headers(headers -> { if (last.get() != null) headers.set("Last-Event-ID", last.get()); })
                .retrieve().bodyToFlux(new ParameterizedTypeReference<ServerSentEvent<String>>() { })
                .doOnNext(event -> {
                    if ("fanfare.live".equals(event.event())) place.live();
                    else if (event.event() == null && event.data() != null) place.handle(event.data());
                    if (event.id() != null) last.set(event.id()); // now that it was handled
                }))
            .onErrorComplete()
            .then(Mono.delay(Duration.ofSeconds(1)))
            .repeat()
            .blockLast();
    }
}
