package clients;

import java.util.Map;

/**
 * The common Java libraries as clients of a broker: each prints `live`, and then the data of each event, once, in order;
 * those that publish print what was acknowledged.
 */
public final class Main {
    interface Client {
        void run(Place place) throws Exception;
    }

    interface Other {
        void run(String base, Place place) throws Exception;
    }

    private static final Map<String, Client> SOCKETS = Map.of(
        "jdk", JdkSocket::run, "okhttp", OkHttpSocket::run, "java-websocket", JavaWebSocket::run,
        "tyrus", TyrusSocket::run, "jetty", JettySocket::run, "reactor-netty", ReactorNettySocket::run);

    private static final Map<String, Other> OTHERS = Map.of(
        "jdk-events", JdkEvents::run, "okhttp-sse", OkHttpSse::run, "okhttp-eventsource", OkHttpEvents::run,
        "httpclient5", ApacheEvents::run, "spring", SpringEvents::run,
        "httpclient5-publisher", ApachePublisher::run, "spring-publisher", SpringPublisher::run);

    public static void main(String[] words) throws Exception {
        if (SOCKETS.containsKey(words[0])) SOCKETS.get(words[0]).run(new Place(words[1]));
        else OTHERS.get(words[0]).run(words[2], new Place(words[1]));
    }
}
