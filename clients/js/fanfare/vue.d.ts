import type { App, MaybeRefOrGetter, ShallowRef } from "vue";
import type { DataOf, Fanfare, Payloads, PublishOptions, Receipt } from "../fanfare.js";
import type {
  Connection, Entries, Latest, LatestOptions, List, ListOptions, MapOptions, Presence, PresenceOptions, PublisherOptions, Reduced,
  ReducedOptions,
} from "./stores.js";

/** `app.use(fanfarePlugin, fanfare)` gives an app its client. */
export declare const fanfarePlugin: { install(app: App, fanfare: Fanfare<any>): void };

/** Gives the components below this one their client. */
export declare function provideFanfare(fanfare: Fanfare<any>): void;

/** The client that is provided, or the one that is given; throws where there is none. */
export declare function useFanfare<Map extends Payloads = {}>(client?: Fanfare<Map>): Fanfare<Map>;

export interface Client<Map extends Payloads = any> {
  /** Another client than the one that is provided. */
  client?: Fanfare<Map>;
}

/** A topic or pattern, also one that changes; without one nothing is subscribed to. */
export type Wanted<Text extends string = string> = MaybeRefOrGetter<Text | null | undefined | false>;

/** What a store shows. It is not changed itself: each time it is another object. */
export type Shown<Value> = Readonly<ShallowRef<Value>>;

/** `older` is of the value, for templates, and beside it. */
export type ShownList<Value> = Shown<Value & Older> & Older;

export interface Older {
  /** Puts up to `n` older events before those that are there; rejects with a `FanfareError`. */
  older(n?: number): Promise<void>;
}

/** The value of a topic. */
export declare function useLatest<Map extends Payloads, const Text extends string>(topic: Wanted<Text>, options: MaybeRefOrGetter<LatestOptions & { client: Fanfare<Map> }>): Shown<Latest<DataOf<Text, Map>>>;
export declare function useLatest<Data = unknown>(topic: Wanted, options?: MaybeRefOrGetter<LatestOptions & Client>): Shown<Latest<Data>>;

/** The values of all topics that match. */
export declare function useMap<Map extends Payloads, const Text extends string>(pattern: Wanted<Text>, options: MaybeRefOrGetter<MapOptions & { client: Fanfare<Map> }>): Shown<Entries<DataOf<Text, Map>>>;
export declare function useMap<Data = unknown>(pattern: Wanted, options?: MaybeRefOrGetter<MapOptions & Client>): Shown<Entries<Data>>;

/** A state of one's own that events change. */
export declare function useEvents<State, Data = unknown>(pattern: Wanted, options: MaybeRefOrGetter<ReducedOptions<State, Data> & Client>): Shown<Reduced<State>>;

/** The newest events, and those that come. */
export declare function useEvents<Map extends Payloads, const Text extends string>(pattern: Wanted<Text>, options: MaybeRefOrGetter<ListOptions & { client: Fanfare<Map> }>): ShownList<List<DataOf<Text, Map>>>;
export declare function useEvents<Data = unknown>(pattern: Wanted, options?: MaybeRefOrGetter<ListOptions & Client & { reduce?: undefined }>): ShownList<List<Data>>;

/** Who is in a topic whose rule has presence. */
export declare function usePresence(topic: Wanted, options?: MaybeRefOrGetter<PresenceOptions & Client>): Shown<Presence>;

/** How the connection is. */
export declare function useConnection(options?: MaybeRefOrGetter<Client>): Shown<Connection>;

/** What publishes to a topic, and resolves with the broker's answer. */
export declare function usePublish<Data = unknown>(topic: MaybeRefOrGetter<string>, options?: MaybeRefOrGetter<PublisherOptions & Client>): (data?: Data, options?: PublishOptions) => Promise<Receipt>;
