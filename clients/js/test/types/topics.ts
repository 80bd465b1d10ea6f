// What the compiler knows of topics and patterns; checked by `tsc`, never run.

import { Fanfare, type Event, type DataOf } from "fanfare";

interface Order { id: number; total: number }
interface Cpu { percent: number }
type Topics = { "orders.*": Order; "host.*.cpu": Cpu; "chat.>": { text: string }; "motd": string };

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const is = <_ extends true>() => {};

is<Equal<DataOf<"orders.*", Topics>, Order>>();
is<Equal<DataOf<"orders.42", Topics>, Order>>();
is<Equal<DataOf<"orders.42.items", Topics>, unknown>>();
is<Equal<DataOf<"host.ada.cpu", Topics>, Cpu>>();
is<Equal<DataOf<"chat.a.b.c", Topics>, { text: string }>>();
is<Equal<DataOf<"chat", Topics>, unknown>>();
is<Equal<DataOf<"motd", Topics>, string>>();
is<Equal<DataOf<"other", Topics>, unknown>>();
is<Equal<DataOf<string, Topics>, unknown>>();

const fanfare = new Fanfare<Topics>("https://push.example", { token: async () => "x" });
const undo = fanfare.subscribe("orders.*", { snapshot: true, maxRate: 5 }, ({ data, topic, id, own }) => {
  is<Equal<typeof data, Order>>();
  is<Equal<typeof topic, string>>();
  is<Equal<typeof id, string | undefined>>();
  is<Equal<typeof own, boolean>>();
});
undo();
fanfare.subscribe("motd", ({ data }) => { data.length; });
// @ts-expect-error data is an Order
fanfare.subscribe("orders.7", ({ data }) => data.text);
// @ts-expect-error no such option
fanfare.subscribe("orders.7", { snapshots: true }, () => {});
// @ts-expect-error no such way to overflow
fanfare.subscribe("orders.7", { overflow: "drop" });

async function loop() {
  for await (const event of fanfare.subscribe("host.ada.cpu", { tail: 50, overflow: "latest" })) {
    is<Equal<typeof event, Event<Cpu>>>();
    break;
  }
  const { id } = await fanfare.publish("orders.42", { id: 42, total: 7 }, { type: "created", except: true });
  is<Equal<typeof id, string | undefined>>();
  // @ts-expect-error an order has a total
  await fanfare.publish("orders.42", { id: 42 });
  await fanfare.publish("orders.42", undefined, { removed: true });
  await new Fanfare().publish("anything", [1, "two"]);
}
void loop;

// @ts-expect-error no such topic in the map
fanfare.subscribe("order.*", () => {});
// @ts-expect-error nor one of as many segments
fanfare.subscribe("orders", { snapshot: true }, () => {});
fanfare.subscribe("orders.>", ({ data }) => { is<Equal<typeof data, unknown>>(); });
fanfare.subscribe(">", () => {});
fanfare.subscribe("$presence.chat.a", () => {});
declare const id: string;
fanfare.subscribe(id, () => {});
fanfare.subscribe(`orders.${id}` as const, ({ data }) => data.total);
// @ts-expect-error no such topic in the map
void fanfare.publish("ordrs.7", { id: 7, total: 1 });
// @ts-expect-error one publishes to a topic
void fanfare.publish("orders.*", { id: 7, total: 1 });
// @ts-expect-error whatever client it is
void new Fanfare().publish("orders.>", 1);
// @ts-expect-error the handler comes last
fanfare.subscribe("motd", () => {}, { snapshot: true });
// @ts-expect-error a handler is given an event
fanfare.subscribe("orders.7", (order: Order) => order.total);

fanfare.on("state", ({ state, retryAt }) => { is<Equal<typeof retryAt, number | undefined>>(); return state === "live"; });
fanfare.on("gap", ({ patterns }) => patterns.join());
// @ts-expect-error no such event
fanfare.on("close", () => {});

declare const order: { readonly "~standard": { version: 1; vendor: string; validate(value: unknown): { value: Order } | { issues: readonly { message: string }[] }; types?: { input: { id: string }; output: Order } } };
declare const anything: { readonly "~standard": { version: 1; vendor: string; validate(value: unknown): unknown } };
const checked = new Fanfare("https://push.example", { schemas: { "orders.*": order, "host.>": anything } });
checked.subscribe("orders.7", ({ data }) => { is<Equal<typeof data, Order>>(); });
checked.subscribe("host.a", ({ data }) => { is<Equal<typeof data, unknown>>(); });
new Fanfare<Topics>({ schemas: { "orders.*": order } }).subscribe("host.a.cpu", ({ data }) => { is<Equal<typeof data, Cpu>>(); });
// @ts-expect-error a number is no schema
new Fanfare("https://push.example", { schemas: { "orders.*": 7 } });
// @ts-expect-error an order is no percentage
new Fanfare<Topics>({ schemas: { "host.*.cpu": order } });
