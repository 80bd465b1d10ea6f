import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.HistoryApi;
import org.openapitools.client.api.PublishingApi;
import org.openapitools.client.model.*;

/**
 * What an application would do with the client of openapi-generator's `java`, library `native`: the same as with its
 * other library, in a file that is to compile on its own, for each generates these classes anew.
 */
public class Probe {
  public static void main(String[] args) throws ApiException {
    var client = new ApiClient();
    client.updateBaseUri(System.getenv("FANFARE_URL"));
    client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + System.getenv("FANFARE_KEY")));
    var publishing = new PublishingApi(client);
    var history = new HistoryApi(client);
    var topic = "generated.java-native";

    var one = new EventInput().topic(topic).type("order.paid").data(Map.of("order", 42));
    var first = publishing.publishBatch(new Publication(one), null).getEvents().get(0);
    var batch = new EventBatch().addEventsItem(new EventInput().topic(topic).data("text"))
        .addEventsItem(new EventInput().topic(topic).data(List.of(1, 2)));
    publishing.publishBatch(new Publication(batch), "key-of-java-native");
    publishing.publish(topic, "order.sent", null, Map.of("order", 42));

    var all = history.listEvents(topic, null, null).getEvents();
    expect(all.size() == 4, "four events, not " + all);
    expect("order.paid".equals(all.get(0).getType()), "the type of " + all.get(0));
    expect(((Map<?, ?>) all.get(0).getData()).get("order") instanceof Number, "the data of " + all.get(0));
    expect(history.listEvents(topic, first.getId(), 2).getEvents().size() == 2, "two after a cursor");
    expect(history.listEvents(topic, "-1h", null).getEvents().size() == 4, "four of the last hour");
    try {
      publishing.publish("not..a.topic", null, null, 1);
      expect(false, "a refusal");
    } catch (ApiException refused) {
      expect(refused.getCode() == 422, "422, not " + refused);
    }
    System.exit(0);
  }

  private static void expect(boolean isSo, String what) {
    if (!isSo) throw new AssertionError("expected " + what);
  }
}
