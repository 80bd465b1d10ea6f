// What the compiler knows of the hooks; checked by `tsc`, never run.

import { Fanfare, type Event } from "fanfare";
import { FanfareProvider, useConnection, useEvents, useFanfare, useLatest, useMap, usePresence, usePublish } from "fanfare/react";
import type { Latest } from "fanfare/stores";

interface Cpu { percent: number }
type Topics = { "host.*.cpu": Cpu };

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const is = <_ extends true>() => {};

const client = new Fanfare<Topics>();
FanfareProvider({ client, children: "text" });

export function Page({ topic }: { topic: string | null }) {
  const cpu = useLatest<Cpu>("host.ada.cpu", { maxRate: 5 });
  is<Equal<typeof cpu, Latest<Cpu>>>();
  const own = useLatest("host.ada.cpu", { client });
  is<Equal<typeof own.data, Cpu | undefined>>();
  useLatest(topic);
  const { entries } = useMap<Cpu>("host.*.cpu");
  is<Equal<typeof entries, ReadonlyMap<string, Event<Cpu>>>>();
  const { events, more, older } = useEvents<Cpu>("host.>", { tail: 20 });
  is<Equal<typeof events, readonly Event<Cpu>[]>>();
  const { state } = useEvents("host.>", { load: async () => ({ state: 0, since: "x" }), reduce: (sum) => sum + 1 });
  is<Equal<typeof state, number | undefined>>();
  const { members } = usePresence("room", { max: 20 });
  const { retryAt } = useConnection();
  const publish = usePublish<Cpu>("host.ada.cpu", { throttle: 50 });
  publish({ percent: 1 }).then(({ id }) => id);
  useFanfare().reconnect();
  const all = useMap("host.*.cpu", { client, maxRate: 5 });
  is<Equal<typeof all.entries, ReadonlyMap<string, Event<Cpu>>>>();
  const sum = useEvents("host.ada.cpu", { client, initial: 0, reduce: (before, { data }) => before + data.percent });
  is<Equal<typeof sum.state, number | undefined>>();
  const list = useEvents("host.>", { client });
  is<Equal<typeof list.events, readonly Event<unknown>[]>>();
  usePublish("host.ada.cpu", { client, throttle: 50 })({ percent: 1 });
  // @ts-expect-error the map says what is published there
  usePublish("host.ada.cpu", { client })({ percent: "1" });
  // @ts-expect-error no such topic in the map
  useLatest("hots.ada.cpu", { client });
  // @ts-expect-error one value is of one topic, of whatever client
  useLatest("host.*.cpu");
  // @ts-expect-error no such pattern in the map
  useMap("host.*", { client });
  // @ts-expect-error no such pattern in the map
  useEvents("host.*.memory", { client, tail: 5 });
  // @ts-expect-error what has no `percent` in the map
  useEvents("host.ada.cpu", { client, initial: 0, reduce: (before, { data }) => before + data.per_cent });
  // @ts-expect-error no such topic in the map
  usePresence("room", { client });
  // @ts-expect-error no such option
  useLatest("a", { rate: 5 });
  // @ts-expect-error what it publishes is typed
  publish({ percent: "1" });
  return [more, older, members.length, retryAt];
}
