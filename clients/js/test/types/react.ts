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
  // @ts-expect-error no such option
  useLatest("a", { rate: 5 });
  // @ts-expect-error what it publishes is typed
  publish({ percent: "1" });
  return [more, older, members.length, retryAt];
}
