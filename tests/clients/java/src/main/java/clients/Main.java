package clients;

import java.util.Map;

/** The common Java libraries as clients of a broker: each prints `live`, and then the data of each event, once, in order. */
public final class Main {
    interface Client {
        void run(Place place) throws Exception;
    }

    interface Stream {
        void run(String base, Place place) throws Exception;
    }

    private static final Map<String, Client> SOCKETS = Map.of(
        "jdk", JdkSocket::run, "okhttp", OkHttpSocket::run, "java-websocket", JavaWebSocket::run,
        "tyrus", TyrusSocket::run, "jetty", JettySocket::run, "reactor-netty", ReactorNettySocket::run);

    private static final Map<String, Stream> STREAMS = Map.of(
        "jdk-events", JdkEvents::run, "okhttp-eventsource", OkHttpEvents::run);

    public static void main(String[] words) throws Exception {
        if (SOCKETS.containsKey(words[0])) SOCKETS.get(words[0]).run(new Place(words[1]));
        else STREAMS.get(words[0]).run(words[2], new Place(words[1]));
    }
}
