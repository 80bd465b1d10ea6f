package clients;

import org.springframework.http.MediaType;
import org.springframework.http.client.JdkClientHttpRequestFactory;
import org.springframework.web.client.RestClient;

final class SpringPublisher {
    static void run(String base, Place place) throws Exception {
        var factory = new JdkClientHttpRequestFactory();
        factory.setReadTimeout(10_000); // none otherwise
        var http = RestClient.builder().baseUrl(base).requestFactory(factory).build();
        Numbers.publish(place, "spring-publisher", (topic, key, data) -> http.post()
            .uri("/v1/topics/{topic}/events", topic)
            .header("Idempotency-Key", key)
            .contentType(MediaType.APPLICATION_JSON)
            .body(data) // JSON, as text; an object where Jackson is there
            .retrieve() // throws at a refusal
            .toBodilessEntity().getStatusCode().is2xxSuccessful());
    }
}
