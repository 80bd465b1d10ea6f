// Live state for React: each hook is a store of `stores.js`, shown by `useSyncExternalStore`.
//
// A store is made while rendering, and opens nothing before its component is there: what is rendered and thrown away, or rendered by
// a server, costs nothing. Stores of the same arguments are one, however many components show them. Functions are
// read when they are called, so that others in their place change nothing on the wire.

import { createContext, createElement, useContext, useInsertionEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { connection, latest, list, map, presence, publisher, reduced } from "./stores.js";

const Client = createContext(null);

function FanfareProvider({ client, children }) {
  return createElement(Client.Provider, { value: client }, children);
}

function useFanfare(client) {
  const around = useContext(Client);
  const fanfare = client ?? around;
  if (!fanfare) throw new Error("there is no client: put <FanfareProvider client={fanfare}> around this component, or give the hook one");
  return fanfare;
}

const never = () => () => {};

/** What a store shows; of what is not `wanted` yet (a topic that is null), as it is before anything was heard. */
function useStore(store, wanted = true) {
  return useSyncExternalStore(wanted ? store.subscribe : never, () => store.current, () => store.initial);
}

/** The newest of what was rendered and is there. */
function useNewest(value) {
  const newest = useRef(value);
  useInsertionEffect(() => { newest.current = value; });
  return newest;
}

function useLatest(topic, { client, ...options } = {}) {
  return useStore(latest(useFanfare(client), topic, options), topic);
}

function useMap(pattern, { client, ...options } = {}) {
  return useStore(map(useFanfare(client), pattern, options), pattern);
}

function usePresence(topic, { client, ...options } = {}) {
  return useStore(presence(useFanfare(client), topic, options), topic);
}

function useConnection({ client } = {}) {
  return useStore(connection(useFanfare(client)));
}

function useEvents(pattern, { client, reduce, load, initial, ...options } = {}) {
  const fanfare = useFanfare(client);
  const given = useNewest({ reduce, load });
  const store = useMemo(() => {
    if (!reduce) return list(fanfare, pattern, options);
    const own = { ...options, initial, reduce: (...args) => given.current.reduce(...args) };
    if (load) own.load = () => given.current.load();
    return reduced(fanfare, pattern, own);
  }, [fanfare, pattern, !reduce, !load, JSON.stringify(options)]);
  const value = useStore(store, pattern);
  return useMemo(() => ({ ...value, older: store.older }), [value, store]);
}

function usePublish(topic, { client, throttle, ...options } = {}) {
  const fanfare = useFanfare(client);
  const given = useNewest(options);
  return useMemo(() => {
    const publish = publisher(fanfare, topic, { throttle });
    return (data, more) => publish(data, { ...given.current, ...more });
  }, [fanfare, topic, throttle]);
}

export { FanfareProvider, useConnection, useEvents, useFanfare, useLatest, useMap, usePresence, usePublish };
