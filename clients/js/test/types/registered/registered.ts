// What the compiler knows where an application has said once what its topics are; checked by `tsc`, never run.

import { Fanfare, type Event } from "fanfare";
import * as react from "fanfare/react";
import type { Entries, Latest, Presence } from "fanfare/stores";
import * as svelte from "fanfare/svelte";
import * as vue from "fanfare/vue";
import { ref } from "vue";

interface Order { id: number; total: number }
interface Topics { "orders.*": Order; "motd": string; "room.>": { text: string } }

declare module "fanfare" {
  interface Register { topics: Topics }
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const is = <_ extends true>() => {};

const fanfare = new Fanfare("https://push.example", { token: "x" });
is<Equal<typeof fanfare, Fanfare<Topics>>>();
// @ts-expect-error no such topic
fanfare.subscribe("order.*", () => {});
const other = new Fanfare<{ "cpu": number }>();
other.subscribe("cpu", ({ data }) => data.toFixed());
// What a schema says goes before it.
declare const schema: { readonly "~standard": { version: 1; vendor: string; validate(value: unknown): unknown; types?: { input: unknown; output: Date } } };
new Fanfare("https://push.example", { schemas: { "day": schema } }).subscribe("day", ({ data }) => data.getTime());

export function React({ topic }: { topic: string | null }) {
  const order = react.useLatest("orders.7");
  is<Equal<typeof order, Latest<Order>>>();
  const none = react.useLatest(topic);
  is<Equal<typeof none, Latest<unknown>>>();
  const explicit = react.useLatest<Date>("anything");
  is<Equal<typeof explicit, Latest<Date>>>();
  const given = react.useLatest("cpu", { client: other, maxRate: 5 });
  is<Equal<typeof given, Latest<number>>>();
  const orders = react.useMap("orders.*");
  is<Equal<typeof orders, Entries<Order>>>();
  const { events, older } = react.useEvents("room.a.b", { tail: 5 });
  is<Equal<typeof events, readonly Event<{ text: string }>[]>>();
  const { state } = react.useEvents("orders.*", { initial: 0, reduce: (sum, { data }) => sum + data.total });
  is<Equal<typeof state, number | undefined>>();
  const own = react.useEvents<number, Order>("anything", { initial: 0, reduce: (sum, { data }) => sum + data.total });
  is<Equal<typeof own.state, number | undefined>>();
  const members = react.usePresence("room.a");
  is<Equal<typeof members, Presence>>();
  const publish = react.usePublish("motd", { throttle: 50 });
  publish("hello").then(({ id }) => id);
  publish(undefined, { removed: true });
  const same = react.useFanfare();
  is<Equal<typeof same, Fanfare<Topics>>>();
  const one = react.useLatest(`orders.${topic ?? 7}`);
  is<Equal<typeof one.data, Order | undefined>>();
  // @ts-expect-error a motd is a text
  publish(7);
  // @ts-expect-error no such topic
  react.useLatest("order.7");
  // @ts-expect-error nor in the map of that client
  react.useLatest("motd", { client: other });
  // @ts-expect-error one topic is meant
  react.useLatest("orders.*");
  // @ts-expect-error no such pattern
  react.useMap("order.*");
  // @ts-expect-error no such pattern
  react.useEvents("motd.*");
  // @ts-expect-error no such pattern
  react.useEvents("order.*", { initial: 0, reduce: (sum: number) => sum + 1 });
  // @ts-expect-error an order has no text
  react.useEvents("orders.*", { initial: 0, reduce: (sum, { data }) => sum + data.text.length });
  // @ts-expect-error no such topic
  react.usePresence("rooms.a");
  // @ts-expect-error one room is meant
  react.usePresence("room.*");
  // @ts-expect-error no such topic
  react.usePublish("order.7");
  // @ts-expect-error one publishes to a topic
  react.usePublish("orders.*");
  return [older, events.length];
}

export function Vue() {
  const order = vue.useLatest(() => "orders.7");
  is<Equal<typeof order.value, Latest<Order>>>();
  const dynamic = vue.useLatest(ref<string | null>(null));
  is<Equal<typeof dynamic.value, Latest<unknown>>>();
  const explicit = vue.useLatest<Date>(ref("anything"));
  is<Equal<typeof explicit.value, Latest<Date>>>();
  const given = vue.useLatest("cpu", () => ({ client: other }));
  is<Equal<typeof given.value, Latest<number>>>();
  const orders = vue.useMap("orders.*");
  is<Equal<typeof orders.value, Entries<Order>>>();
  const log = vue.useEvents("room.>", { tail: 5 });
  is<Equal<typeof log.value.events, readonly Event<{ text: string }>[]>>();
  const total = vue.useEvents("orders.*", { initial: 0, reduce: (sum, { data }) => sum + data.total });
  is<Equal<typeof total.value.state, number | undefined>>();
  vue.usePresence("room.a").value.members.length;
  vue.usePublish("motd")("hello");
  vue.usePublish(() => "orders.7" as const)({ id: 7, total: 1 });
  // @ts-expect-error a motd is a text
  vue.usePublish("motd")(7);
  // @ts-expect-error no such topic
  vue.useLatest("order.7");
  // @ts-expect-error also where it may change
  vue.useLatest(() => "order.7");
  // @ts-expect-error one topic is meant
  vue.useLatest("orders.*");
  // @ts-expect-error no such pattern
  vue.useMap("order.*");
  // @ts-expect-error no such pattern
  vue.useEvents("motd.*");
  // @ts-expect-error nor in the map of that client
  vue.useEvents("orders.*", { client: other });
  // @ts-expect-error an order has no text
  vue.useEvents("orders.*", { initial: 0, reduce: (sum, { data }) => sum + data.text.length });
  // @ts-expect-error no such topic
  vue.usePresence("rooms.a");
  // @ts-expect-error no such topic
  vue.usePublish("order.7");
}

export function Svelte() {
  const order = svelte.useLatest(() => "orders.7");
  is<Equal<typeof order.current, Latest<Order>>>();
  const explicit = svelte.useLatest<Date>(() => false);
  is<Equal<typeof explicit.current, Latest<Date>>>();
  const given = svelte.useLatest("cpu", () => ({ client: other }));
  is<Equal<typeof given.current, Latest<number>>>();
  const orders = svelte.useMap("orders.*");
  is<Equal<typeof orders.current, Entries<Order>>>();
  orders.subscribe(({ entries }) => { is<Equal<typeof entries, ReadonlyMap<string, Event<Order>>>>(); });
  const log = svelte.useEvents("room.>", { tail: 5 });
  is<Equal<typeof log.current.events, readonly Event<{ text: string }>[]>>();
  const total = svelte.useEvents("orders.*", () => ({ initial: 0, reduce: (sum, { data }) => sum + data.total }));
  is<Equal<typeof total.current.state, number | undefined>>();
  svelte.usePresence("room.a").current.members.length;
  svelte.usePublish("motd")("hello");
  // @ts-expect-error a motd is a text
  svelte.usePublish("motd")(7);
  // @ts-expect-error no such topic
  svelte.useLatest("order.7");
  // @ts-expect-error also where it may change
  svelte.useLatest(() => "order.7");
  // @ts-expect-error one topic is meant
  svelte.useLatest("orders.*");
  // @ts-expect-error no such pattern
  svelte.useMap("order.*");
  // @ts-expect-error no such pattern
  svelte.useEvents("motd.*");
  // @ts-expect-error nor in the map of that client
  svelte.useEvents("orders.*", { client: other });
  // @ts-expect-error no such topic
  svelte.usePresence("rooms.a");
  // @ts-expect-error no such topic
  svelte.usePublish("order.7");
}
