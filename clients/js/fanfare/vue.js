// Live state in Vue: each of these is a ref of what a store shows, and gives it back with the scope that it was called in.

import { computed, getCurrentInstance, hasInjectionContext, inject, onMounted, provide, shallowRef, ssrContextKey, toRaw, toValue, watchEffect } from "vue";
import { connection, latest, list, map, presence, publisher, reduced } from "./stores.js";

const KEY = Symbol.for("fanfare");

const fanfarePlugin = { install: (app, fanfare) => app.provide(KEY, fanfare) };

const provideFanfare = (fanfare) => provide(KEY, fanfare);

/** The client, before which no proxy may stand. */
function useFanfare(client) {
  const fanfare = client ?? inject(KEY, null);
  if (!fanfare) throw new Error("there is no client: app.use(fanfarePlugin, fanfare), provideFanfare(fanfare), or the option `client`");
  return toRaw(fanfare);
}

/** The client, and a getter of the other options. */
function given(options) {
  return [useFanfare(toValue(options)?.client), () => ({ ...toValue(options), client: undefined })];
}

/** Who renders for somebody else hears nothing, for nobody would give it back. */
const isServer = () => !globalThis.document || hasInjectionContext() && inject(ssrContextKey, null);

function use(kind, text, options) {
  const [fanfare, more] = given(options);
  const store = computed(() => kind(fanfare, toValue(text) || "", more()));
  // In templates the value is all there is of a ref.
  const said = (now) => store.value.older ? { ...now, older: store.value.older } : now;
  const shown = shallowRef(said(store.value.initial));
  // It ends with its scope, and its last subscription with it.
  const follow = () => watchEffect((ended) => {
    if (toValue(text)) ended(store.value.subscribe((now) => { shown.value = said(now); }));
    else shown.value = said(store.value.initial);
  });
  // What takes over from a server begins with what that rendered, whatever this page knows already.
  if (getCurrentInstance()?.vnode.el) onMounted(follow);
  else if (!isServer()) follow();
  return [shown, store];
}

const useLatest = (topic, options) => use(latest, topic, options)[0];
const useMap = (pattern, options) => use(map, pattern, options)[0];
const usePresence = (topic, options) => use(presence, topic, options)[0];
const useConnection = (options) => use(connection, ">", options)[0];

function useEvents(pattern, options) {
  const isList = !toValue(options)?.reduce;
  const [shown, store] = use(isList ? list : reduced, pattern, options);
  return isList ? Object.assign(shown, { older: (n) => store.value.older(n) }) : shown;
}

function usePublish(topic, options) {
  const [fanfare, more] = given(options);
  const publish = computed(() => publisher(fanfare, toValue(topic), more()));
  return (data, options) => publish.value(data, options);
}

export { fanfarePlugin, provideFanfare, useConnection, useEvents, useFanfare, useLatest, useMap, usePresence, usePublish };
