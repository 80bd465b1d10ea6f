package clients;

/** What the lines of an event stream say (WHATWG HTML, section 9.2.6), and where the client is in it. */
final class EventLines {
    private final Place place;
    private String last = "", id = "", event = "", data = "";

    EventLines(Place place) {
        this.place = place;
    }

    /** The `Last-Event-ID` to go on from, empty at first. What was cut off is forgotten. */
    String last() {
        id = last;
        event = data = "";
        return last;
    }

    void take(String line) {
        if (line.startsWith("id: ")) id = line.substring(4);
        else if (line.startsWith("event: ")) event = line.substring(7);
        else if (line.startsWith("data: ")) data = line.substring(6);
        else if (line.isEmpty()) {
            if (event.equals("fanfare.live")) place.live();
            else if (event.isEmpty() && !data.isEmpty()) place.handle(data);
            last = id; // now that it was handled
            event = data = "";
        }
    }
}
