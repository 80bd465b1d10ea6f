package clients;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

final class JdkEvents {
    static void run(String base, Place place) throws Exception {
        var http = HttpClient.newHttpClient();
        var stream = new EventLines(place);
        for (;; Thread.sleep(1000)) {
            // %3E, for URI refuses a raw `>`.
            var request = HttpRequest.newBuilder(URI.create(base + "/v1/sse?topic=clients.%3E&format=data"));
            String last = stream.last();
            if (!last.isEmpty()) request.header("Last-Event-ID", last);
            try (var lines = http.send(request.build(), BodyHandlers.ofLines()).body()) {
                lines.forEach(stream::take);
            } catch (IOException | UncheckedIOException away) {
                // tried again
            }
        }
    }
}
