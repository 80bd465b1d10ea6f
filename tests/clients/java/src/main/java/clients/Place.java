package clients;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.net.URI;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;

/** Where a client of WebSockets is in the history. */
final class Place {
    private final String base;
    private String cursor = "";
    private boolean told;

    Place(String base) {
        this.base = base;
    }

    /** What a message says. The cursor moves when the event was handled, so that one whose handling failed comes again. */
    synchronized void take(String text) {
        JsonObject frame = JsonParser.parseString(text).getAsJsonObject();
        switch (frame.get("op").getAsString()) {
            case "event" -> {
                handle(frame.get("data").toString());
                if (frame.has("id") && !frame.has("snapshot") && !frame.has("conflated")) cursor = frame.get("id").getAsString();
            }
            case "live", "cursor" -> {
                cursor = frame.get("cursor").getAsString();
                live();
            }
            default -> { }
        }
    }

    /** Where the client goes on. URI refuses a raw `>`. */
    synchronized URI uri() {
        String topic = URLEncoder.encode("clients.>", StandardCharsets.UTF_8);
        return URI.create(base + "/v1/ws?topic=" + topic + (cursor.isEmpty() ? "" : "&since=" + cursor));
    }

    void handle(String data) {
        System.out.println(data);
    }

    synchronized void live() {
        if (!told) System.out.println("live");
        told = true;
    }
}
