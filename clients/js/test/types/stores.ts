// What the compiler knows of stores; checked by `tsc`, never run.

import { Fanfare, type Event } from "fanfare";
import { latest, list, map, presence, publisher, reduced, type Entries, type Latest, type Store } from "fanfare/stores";

interface Order { id: number; total: number }
type Topics = { "orders.*": Order; "motd": string };

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const is = <_ extends true>() => {};

const typed = new Fanfare<Topics>();
const plain = new Fanfare();

const motd = latest(typed, "motd");
is<Equal<typeof motd, Store<Latest<string>>>>();
motd.subscribe(({ data, stale }) => { is<Equal<typeof data, string | undefined>>(); return stale; })();
const orders = map(typed, "orders.*", { maxRate: 5 });
is<Equal<typeof orders, Store<Entries<Order>>>>();
const explicit = latest<Order>(plain, "orders.7");
is<Equal<typeof explicit, Store<Latest<Order>>>>();
const unknown = latest(plain, "orders.7");
is<Equal<typeof unknown, Store<Latest<unknown>>>>();
const log = list(typed, "orders.*", { tail: 20 });
is<Equal<typeof log.current.events, readonly Event<Order>[]>>();
log.older(20).then(() => {});
// @ts-expect-error a snapshot is not changed
log.current.events.push({});
// @ts-expect-error no such option
list(typed, "orders.*", { last: 20 });
// @ts-expect-error no such topic in the map
latest(typed, "order.7");
// @ts-expect-error nor such a pattern
map(typed, "order.*");
// @ts-expect-error nor such a pattern
list(typed, "motd.*");
// @ts-expect-error one value is of one topic
latest(typed, "orders.*");
// @ts-expect-error of whatever client
latest(plain, "orders.*");
// @ts-expect-error and one is in one room
presence(plain, "room.*");
latest<Order>(typed, "orders.7").current.data?.total;
presence(plain, "room.a").subscribe(({ members }) => members.map(({ session }) => session));
const total = reduced(typed, "orders.*", {
  load: async () => ({ state: 0, since: "x" }),
  reduce: (sum, { data }) => sum + data.total,
});
is<Equal<typeof total.current.state, number | undefined>>();
publisher<Order>(plain, "orders.7", { throttle: 50, bound: true })({ id: 7, total: 1 }).then(({ id }) => id);
publisher(typed, "orders.7")({ id: 7, total: 1 }).then(({ id }) => id);
publisher(typed, "motd", { throttle: 50 })(undefined, { removed: true });
publisher(plain, "anything")([1, "two"]);
// @ts-expect-error a motd is a text
publisher(typed, "motd")(7);
// @ts-expect-error no such topic in the map
publisher(typed, "mtod");
// @ts-expect-error one publishes to a topic
publisher(plain, "orders.*");
// @ts-expect-error no such pattern in the map
reduced(typed, "order.*", { initial: 0, reduce: (sum: number) => sum + 1 });
// @ts-expect-error an order has no text
reduced(typed, "orders.*", { initial: 0, reduce: (sum, { data }) => sum + data.text.length });
reduced<number, Order>(typed, "anything", { initial: 0, reduce: (sum, { data }) => sum + data.total }).current.state?.toFixed();
// @ts-expect-error no such room in the map
presence(typed, "room.a");
presence(new Fanfare<{ "room.>": string }>(), "room.a");
