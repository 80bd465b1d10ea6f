// Live state in Svelte: what these return has `.current` for runes, and is a store for `$`. Where a server renders, Svelte
// itself subscribes to nothing, so nothing is opened.

import { getContext, setContext, untrack } from "svelte";
import { createSubscriber } from "svelte/reactivity";
import { toStore } from "svelte/store";
import { connection, latest, list, map, presence, publisher, reduced } from "./stores.js";

const KEY = Symbol.for("fanfare");

const provideFanfare = (fanfare) => setContext(KEY, fanfare);

function useFanfare(client) {
  const fanfare = client ?? getContext(KEY);
  if (!fanfare) throw new Error("there is no client: provideFanfare(fanfare) in a component above, or the option `client`");
  return fanfare;
}

const valueOf = (given) => typeof given === "function" ? given() : given;

/** The client, and what makes something of a topic and the other options, anew where these are others. */
function given(text, options, make) {
  const fanfare = useFanfare(valueOf(options)?.client);
  let made, key;
  return () => {
    const topic = valueOf(text), more = { ...valueOf(options), client: undefined };
    const now = JSON.stringify([topic, more]);
    if (now !== key) [key, made] = [now, make(fanfare, topic || "", more)];
    return made;
  };
}

const follows = new WeakMap();

/** What a store shows, for whoever reads it in an effect or in markup to be told of the next. */
function read(store) {
  if (!follows.has(store)) {
    follows.set(store, createSubscriber((update) => {
      let { current } = store;
      return store.subscribe((now) => {
        if (now !== current) update();
        current = now;
      });
    }));
  }
  follows.get(store)();
  return store.current;
}

function use(kind, text, options) {
  const store = given(text, options, kind);
  const live = {
    get current() {
      return valueOf(text) ? read(store()) : store().initial;
    },
    older: (n) => store().older(n),
  };
  // Here, where it is of the component: what is first made within an effect may be lost when that runs again.
  return Object.assign(live, untrack(() => toStore(() => live.current)));
}

const useLatest = (topic, options) => use(latest, topic, options);
const useMap = (pattern, options) => use(map, pattern, options);
const useEvents = (pattern, options) => use(valueOf(options)?.reduce ? reduced : list, pattern, options);
const usePresence = (topic, options) => use(presence, topic, options);
const useConnection = (options) => use(connection, ">", options);

function usePublish(topic, options) {
  const publish = given(topic, options, publisher);
  return (data, options) => publish()(data, options);
}

export { provideFanfare, useConnection, useEvents, useFanfare, useLatest, useMap, usePresence, usePublish };
