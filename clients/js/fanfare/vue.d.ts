import type { App, MaybeRefOrGetter, ShallowRef } from "vue";
import type { DataOf, Fanfare, PatternIn, Payloads, Registered, Said, SentTo, TopicIn } from "../fanfare.js";
import type {
  Connection, Entries, Latest, LatestOptions, List, ListOptions, MapOptions, Presence, PresenceOptions, Publish, PublisherOptions, Reduced,
  ReducedOptions,
} from "./stores.js";

/** `app.use(fanfarePlugin, fanfare)` gives an app its client. */
export declare const fanfarePlugin: { install(app: App, fanfare: Fanfare<any>): void };

/** Gives the components below this one their client. */
export declare function provideFanfare(fanfare: Fanfare<any>): void;

/** The client that is provided, or the one that is given; throws where there is none. */
export declare function useFanfare<Map extends Payloads = Registered>(client?: Fanfare<Map>): Fanfare<Map>;

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
export declare function useLatest<Data = never>(topic: Wanted<Said<Data>>, options?: MaybeRefOrGetter<LatestOptions & Client>): Shown<Latest<Data>>;
export declare function useLatest<const Text extends string, Map extends Payloads = Registered>(topic: Wanted<Text & TopicIn<Text, Map>>, options?: MaybeRefOrGetter<LatestOptions & Client<Map>>): Shown<Latest<DataOf<Text, Map>>>;

/** The values of all topics that match. */
export declare function useMap<Data = never>(pattern: Wanted<Said<Data>>, options?: MaybeRefOrGetter<MapOptions & Client>): Shown<Entries<Data>>;
export declare function useMap<const Text extends string, Map extends Payloads = Registered>(pattern: Wanted<Text & PatternIn<Text, Map>>, options?: MaybeRefOrGetter<MapOptions & Client<Map>>): Shown<Entries<DataOf<Text, Map>>>;

/** A state of one's own that events change. */
export declare function useEvents<State, Data = never>(pattern: Wanted<Said<Data>>, options: MaybeRefOrGetter<ReducedOptions<State, Data> & Client>): Shown<Reduced<State>>;
export declare function useEvents<State, const Text extends string, Map extends Payloads = Registered>(pattern: Wanted<Text & PatternIn<Text, Map>>, options: MaybeRefOrGetter<ReducedOptions<State, DataOf<Text, Map>> & Client<Map>>): Shown<Reduced<State>>;

/** The newest events, and those that come. */
export declare function useEvents<Data = never>(pattern: Wanted<Said<Data>>, options?: MaybeRefOrGetter<ListOptions & { reduce?: undefined } & Client>): ShownList<List<Data>>;
export declare function useEvents<const Text extends string, Map extends Payloads = Registered>(pattern: Wanted<Text & PatternIn<Text, Map>>, options?: MaybeRefOrGetter<ListOptions & { reduce?: undefined } & Client<Map>>): ShownList<List<DataOf<Text, Map>>>;

/** Who is in a topic whose rule has presence. */
export declare function usePresence<const Text extends string, Map extends Payloads = Registered>(topic: Wanted<Text & TopicIn<Text, Map>>, options?: MaybeRefOrGetter<PresenceOptions & Client<Map>>): Shown<Presence>;

/** How the connection is. */
export declare function useConnection(options?: MaybeRefOrGetter<Client>): Shown<Connection>;

/** What publishes to a topic, and resolves with the broker's answer. */
export declare function usePublish<Data = never>(topic: MaybeRefOrGetter<Said<Data>>, options?: MaybeRefOrGetter<PublisherOptions & Client>): Publish<Data>;
export declare function usePublish<const Text extends string, Map extends Payloads = Registered>(topic: MaybeRefOrGetter<Text & TopicIn<Text, Map>>, options?: MaybeRefOrGetter<PublisherOptions & Client<Map>>): Publish<SentTo<Text, Map>>;
