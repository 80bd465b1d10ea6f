package clients;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import org.apache.hc.client5.http.classic.methods.HttpGet;
import org.apache.hc.client5.http.config.ConnectionConfig;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.client5.http.impl.io.PoolingHttpClientConnectionManagerBuilder;
import org.apache.hc.core5.util.Timeout;

final class ApacheEvents {
    static void run(String base, Place place) throws Exception {
        // Else a dead way is found after 3 minutes; a heartbeat comes every 15 s.
        var silence = ConnectionConfig.custom().setSocketTimeout(Timeout.ofMinutes(1)).build();
        var pool = PoolingHttpClientConnectionManagerBuilder.create().setDefaultConnectionConfig(silence).build();
        var stream = new EventLines(place);
        try (var http = HttpClients.custom().setConnectionManager(pool).build()) {
            for (;; Thread.sleep(1000)) {
                var request = new HttpGet(base + "/v1/sse?topic=clients.%3E&format=data");
                String last = stream.last();
                if (!last.isEmpty()) request.setHeader("Last-Event-ID", last);
                try {
                    http.execute(request, answer -> {
                        var content = new InputStreamReader(answer.getEntity().getContent(), StandardCharsets.UTF_8);
                        new BufferedReader(content).lines().forEach(stream::take);
                        return null;
                    });
                } catch (IOException | UncheckedIOException away) {
                    // tried again
                }
            }
        }
    }
}
