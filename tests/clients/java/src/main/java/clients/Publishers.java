package clients;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Publishes so many events with the JDK's HttpClient, 64 at a time, and says how many were acknowledged. */
public final class Publishers {
    /** More than the 100 streams that a broker allows at once fail over HTTP/2 instead of waiting. */
    private static final int AT_A_TIME = 64;

    public static void main(String[] words) throws Exception {
        String base = words[0];
        int count = Integer.parseInt(words[1]);
        var builder = HttpClient.newBuilder();
        if (words[2].equals("1.1")) builder.version(HttpClient.Version.HTTP_1_1);
        if (words.length > 3) builder.sslContext(trusting(Path.of(words[3])));
        var http = builder.build();
        // The first alone: else 64 connections are begun, until it is known that one of HTTP/2 does for all.
        http.send(HttpRequest.newBuilder(URI.create(base + "/health/live")).build(), BodyHandlers.discarding());
        var room = new Semaphore(AT_A_TIME);
        var good = new AtomicInteger();
        var over2 = new AtomicInteger();
        for (int number = 0; number < count; number++) {
            room.acquire();
            var request = HttpRequest.newBuilder(URI.create(base + "/v1/topics/clients.java/events"))
                .header("Content-Type", "application/json").POST(BodyPublishers.ofString(String.valueOf(number))).build();
            http.sendAsync(request, BodyHandlers.ofString()).whenComplete((answer, error) -> {
                if (answer != null && answer.statusCode() == 201) good.incrementAndGet();
                else System.out.println(error == null ? answer.statusCode() + " " + answer.body() : error);
                if (answer != null && answer.version() == HttpClient.Version.HTTP_2) over2.incrementAndGet();
                room.release();
            });
        }
        room.acquire(AT_A_TIME);
        System.out.println(good + " of " + count + " acknowledged, " + over2 + " over HTTP/2");
        System.exit(good.get() == count ? 0 : 1);
    }

    private static SSLContext trusting(Path certificate) throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (var in = Files.newInputStream(certificate)) {
            store.setCertificateEntry("broker", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
