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
        String id = "", event = "", data = "";
        for (;; Thread.sleep(1000)) {
            // %3E, for URI refuses a raw `>`.
            var request = HttpRequest.newBuilder(URI.create(base + "/v1/sse?topic=clients.%3E&format=data"));
            if (!id.isEmpty()) request.header("Last-Event-ID", id);
            try (var lines = http.send(request.build(), BodyHandlers.ofLines()).body()) {
                String next = id;
                for (String line : (Iterable<String>) lines::iterator) {
                    if (line.startsWith("id: ")) next = line.substring(4);
                    else if (line.startsWith("event: ")) event = line.substring(7);
                    else if (line.startsWith("data: ")) data = line.substring(6);
                    else if (line.isEmpty()) {
                        if (event.equals("fanfare.live")) place.live();
                        else if (event.isEmpty() && !data.isEmpty()) place.handle(data);
                        id = next; // now that it was handled
                        event = data = "";
                    }
                }
            } catch (IOException | UncheckedIOException away) {
                event = data = "";
            }
        }
    }
}
