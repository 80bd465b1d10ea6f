package clients;

import org.apache.hc.client5.http.classic.methods.HttpPost;
import org.apache.hc.client5.http.config.RequestConfig;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.io.entity.StringEntity;
import org.apache.hc.core5.util.TimeValue;
import org.apache.hc.core5.util.Timeout;

final class ApachePublisher {
    static void run(String base, Place place) throws Exception {
        // Both are 3 minutes otherwise. The broker ends what is idle for 90 s.
        var config = RequestConfig.custom()
            .setConnectionKeepAlive(TimeValue.ofSeconds(80)).setResponseTimeout(Timeout.ofSeconds(10)).build();
        try (var http = HttpClients.custom().setDefaultRequestConfig(config).build()) {
            Numbers.publish(place, "httpclient5-publisher", (topic, key, data) -> {
                var request = new HttpPost(base + "/v1/topics/" + topic + "/events");
                request.setHeader("Idempotency-Key", key);
                request.setEntity(new StringEntity(data, ContentType.APPLICATION_JSON));
                int status = http.execute(request, answer -> answer.getCode());
                return status == 201 || status == 200; // 200: it was there already
            });
        }
    }
}
