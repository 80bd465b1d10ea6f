// What the compiler knows of the bindings; checked by `tsc`, never run.

import { Fanfare, type Event } from "fanfare";
import { provideFanfare, type FanfareValue } from "fanfare/elements";
import { type Latest } from "fanfare/stores";
import * as svelte from "fanfare/svelte";
import * as vue from "fanfare/vue";
import { createApp, ref } from "vue";

interface Order { id: number; total: number }
type Topics = { "orders.*": Order; "motd": string };

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const is = <_ extends true>() => {};

const fanfare = new Fanfare<Topics>();

provideFanfare(fanfare);
is<Equal<HTMLElementTagNameMap["fanfare-value"], FanfareValue>>();

createApp({}).use(vue.fanfarePlugin, fanfare);
const motd = vue.useLatest("motd", { client: fanfare });
is<Equal<typeof motd.value, Latest<string>>>();
const order = vue.useLatest<Order>(ref<string | null>(null), { maxRate: 5 });
is<Equal<typeof order.value, Latest<Order>>>();
const unknown = vue.useLatest(() => "orders.7");
is<Equal<typeof unknown.value.data, unknown>>();
// @ts-expect-error no such topic in the map
vue.useLatest("mtod", { client: fanfare });
// @ts-expect-error nor such a pattern
vue.useMap("order.*", { client: fanfare });
// @ts-expect-error nor where the options are read from what changes
vue.useEvents("order.*", () => ({ client: fanfare, tail: 20 }));
// @ts-expect-error nor such a room
vue.usePresence("room.a", { client: fanfare });
// @ts-expect-error a motd is a text
vue.usePublish("motd", { client: fanfare })(7);
const sum = vue.useEvents("orders.7", { client: fanfare, initial: 0, reduce: (before, { data }) => before + data.total });
is<Equal<typeof sum.value.state, number | undefined>>();
// @ts-expect-error what a store shows is not changed
motd.value = motd.value;
const log = vue.useEvents("orders.*", () => ({ client: fanfare, tail: 20 }));
is<Equal<typeof log.value.events, readonly Event<Order>[]>>();
log.older(20).then(() => {});
vue.usePublish<Order>("orders.7", { throttle: 50 })({ id: 7, total: 1 }, { type: "paid" }).then(({ id }) => id);
const total = vue.useEvents("orders.*", { initial: 0, reduce: (sum: number, { data }: Event<Order>) => sum + data.total });
is<Equal<typeof total.value.state, number | undefined>>();
vue.useConnection().value.state.length;
vue.usePresence("room.a").value.members.map(({ session }) => session);
// @ts-expect-error no such option
vue.useMap("orders.*", { tail: 5 });

const text = svelte.useLatest("motd", { client: fanfare });
is<Equal<typeof text.current, Latest<string>>>();
text.subscribe(({ data }) => { is<Equal<typeof data, string | undefined>>(); })();
const orders = svelte.useMap<Order>(() => false);
is<Equal<typeof orders.current.entries, ReadonlyMap<string, Event<Order>>>>();
svelte.useEvents("orders.*", { client: fanfare, tail: 20 }).older().then(() => {});
svelte.usePublish<Order>(() => "orders.7")({ id: 7, total: 1 }).then(({ id }) => id);
svelte.useConnection().current.state.length;
const paid = svelte.useEvents("orders.7", { client: fanfare, initial: 0, reduce: (before, { data }) => before + data.total });
is<Equal<typeof paid.current.state, number | undefined>>();
svelte.usePublish(() => "motd" as const, { client: fanfare })("hello");
// @ts-expect-error a motd is a text
svelte.usePublish("motd", { client: fanfare })(7);
// @ts-expect-error no such topic in the map
svelte.useLatest(() => "mtod", { client: fanfare });
// @ts-expect-error nor such a pattern
svelte.useMap("order.*", { client: fanfare });
// @ts-expect-error nor such a pattern
svelte.useEvents("order.*", () => ({ client: fanfare }));
// @ts-expect-error nor such a room
svelte.usePresence("room.a", { client: fanfare });
// @ts-expect-error a snapshot is not changed
text.current = text.current;
