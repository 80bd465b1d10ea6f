import type { DataOf, Fanfare, PatternIn, Payloads, Registered, Said, SentTo, TopicIn } from "../fanfare.js";
import type {
  Connection, Entries, Latest, LatestOptions, List, ListOptions, MapOptions, Presence, PresenceOptions, Publish, PublisherOptions, Reduced,
  ReducedOptions, Store,
} from "./stores.js";

/** Gives the components below this one their client. */
export declare function provideFanfare(fanfare: Fanfare<any>): void;

/** The client that is provided, or the one that is given; throws where there is none. To be called while a component is set up. */
export declare function useFanfare<Map extends Payloads = Registered>(client?: Fanfare<Map>): Fanfare<Map>;

export interface Client<Map extends Payloads = any> {
  /** Another client than the one that is provided. */
  client?: Fanfare<Map>;
}

/** A value, or a function that reads it from what changes. */
export type Given<Value> = Value | (() => Value);

/** A topic or pattern, also one that changes; without one nothing is subscribed to. */
export type Wanted<Text extends string = string> = Given<Text | null | undefined | false>;

/** What a store shows: `cpu.current`, which follows in effects and markup, or `$cpu`. */
export type Shown<Value> = Pick<Store<Value>, "current" | "subscribe">;

export interface ShownList<Value> extends Shown<Value> {
  /** Puts up to `n` older events before those that are there; rejects with a `FanfareError`. */
  older(n?: number): Promise<void>;
}

/** The value of a topic. What follows is as in `vue.d.ts`, with what Svelte shows: types can be given no type constructor for that. */
export declare function useLatest<Data = never>(topic: Wanted<Said<Data>>, options?: Given<LatestOptions & Client>): Shown<Latest<Data>>;
export declare function useLatest<const Text extends string, Map extends Payloads = Registered>(topic: Wanted<Text & TopicIn<Text, Map>>, options?: Given<LatestOptions & Client<Map>>): Shown<Latest<DataOf<Text, Map>>>;

/** The values of all topics that match. */
export declare function useMap<Data = never>(pattern: Wanted<Said<Data>>, options?: Given<MapOptions & Client>): Shown<Entries<Data>>;
export declare function useMap<const Text extends string, Map extends Payloads = Registered>(pattern: Wanted<Text & PatternIn<Text, Map>>, options?: Given<MapOptions & Client<Map>>): Shown<Entries<DataOf<Text, Map>>>;

/** A state of one's own that events change. */
export declare function useEvents<State, Data = never>(pattern: Wanted<Said<Data>>, options: Given<ReducedOptions<State, Data> & Client>): Shown<Reduced<State>>;
export declare function useEvents<State, const Text extends string, Map extends Payloads = Registered>(pattern: Wanted<Text & PatternIn<Text, Map>>, options: Given<ReducedOptions<State, DataOf<Text, Map>> & Client<Map>>): Shown<Reduced<State>>;

/** The newest events, and those that come. */
export declare function useEvents<Data = never>(pattern: Wanted<Said<Data>>, options?: Given<ListOptions & { reduce?: undefined } & Client>): ShownList<List<Data>>;
export declare function useEvents<const Text extends string, Map extends Payloads = Registered>(pattern: Wanted<Text & PatternIn<Text, Map>>, options?: Given<ListOptions & { reduce?: undefined } & Client<Map>>): ShownList<List<DataOf<Text, Map>>>;

/** Who is in a topic whose rule has presence. */
export declare function usePresence<const Text extends string, Map extends Payloads = Registered>(topic: Wanted<Text & TopicIn<Text, Map>>, options?: Given<PresenceOptions & Client<Map>>): Shown<Presence>;

/** How the connection is. */
export declare function useConnection(options?: Given<Client>): Shown<Connection>;

/** What publishes to a topic, and resolves with the broker's answer. */
export declare function usePublish<Data = never>(topic: Given<Said<Data>>, options?: Given<PublisherOptions & Client>): Publish<Data>;
export declare function usePublish<const Text extends string, Map extends Payloads = Registered>(topic: Given<Text & TopicIn<Text, Map>>, options?: Given<PublisherOptions & Client<Map>>): Publish<SentTo<Text, Map>>;
