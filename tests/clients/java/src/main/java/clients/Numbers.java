package clients;

/** Publishes the numbers from 0 to 59, each again and again until it is acknowledged. */
final class Numbers {
    interface Publisher {
        boolean isAcknowledged(String topic, String key, String data) throws Exception;
    }

    static void publish(Place place, String name, Publisher publisher) throws Exception {
        for (int number = 0; number < 60; number++) {
            while (!isAcknowledged(name, number, publisher)) Thread.sleep(1000);
            place.live();
            place.handle(String.valueOf(number));
            Thread.sleep(100); // so that it lasts for as long as the way is cut and mended
        }
        Thread.currentThread().join(); // until it is ended
    }

    private static boolean isAcknowledged(String name, int number, Publisher publisher) {
        try {
            // The same key each time: what was stored and not acknowledged is not stored again.
            return publisher.isAcknowledged("publishers." + name, name + "-" + number, String.valueOf(number));
        } catch (Exception away) {
            return false;
        }
    }
}
