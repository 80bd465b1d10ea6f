import type { ReactElement, ReactNode } from "react";
import type { DataOf, Fanfare, PatternIn, Payloads, Registered, Said, SentTo, TopicIn } from "../fanfare.js";
import type {
  Connection, Entries, Latest, LatestOptions, List, ListOptions, ListStore, MapOptions, Presence, PresenceOptions, Publish, PublisherOptions, Reduced, ReducedOptions,
} from "./stores.js";

export interface Client<Map extends Payloads = any> {
  /** Another client than the one around the component. */
  client?: Fanfare<Map>;
}

/** Gives a client to the components within. */
export declare function FanfareProvider(props: { client: Fanfare<any>; children?: ReactNode }): ReactElement;

/** The client around the component. */
export declare function useFanfare<Map extends Payloads = Registered>(client?: Fanfare<Map>): Fanfare<Map>;

/** The value of a topic; of none (null), nothing yet. */
export declare function useLatest<Data = never>(topic: Said<Data> | null | undefined, options?: LatestOptions & Client): Latest<Data>;
export declare function useLatest<const Text extends string, Map extends Payloads = Registered>(topic: Text & TopicIn<Text, Map> | null | undefined, options?: LatestOptions & Client<Map>): Latest<DataOf<Text, Map>>;

/** The values of all topics that match. */
export declare function useMap<Data = never>(pattern: Said<Data> | null | undefined, options?: MapOptions & Client): Entries<Data>;
export declare function useMap<const Text extends string, Map extends Payloads = Registered>(pattern: Text & PatternIn<Text, Map> | null | undefined, options?: MapOptions & Client<Map>): Entries<DataOf<Text, Map>>;

/** A state of one's own that events change. */
export declare function useEvents<State, Data = never>(pattern: Said<Data> | null | undefined, options: ReducedOptions<State, Data> & Client): Reduced<State>;
export declare function useEvents<State, const Text extends string, Map extends Payloads = Registered>(pattern: Text & PatternIn<Text, Map> | null | undefined, options: ReducedOptions<State, DataOf<Text, Map>> & Client<Map>): Reduced<State>;

/** The newest events, and those that come. */
export declare function useEvents<Data = never>(pattern: Said<Data> | null | undefined, options?: ListOptions & { reduce?: undefined } & Client): List<Data> & Pick<ListStore, "older">;
export declare function useEvents<const Text extends string, Map extends Payloads = Registered>(pattern: Text & PatternIn<Text, Map> | null | undefined, options?: ListOptions & { reduce?: undefined } & Client<Map>): List<DataOf<Text, Map>> & Pick<ListStore, "older">;

/** Who is in a topic whose rule has presence. */
export declare function usePresence<const Text extends string, Map extends Payloads = Registered>(topic: Text & TopicIn<Text, Map> | null | undefined, options?: PresenceOptions & Client<Map>): Presence;

/** How the connection is. */
export declare function useConnection(options?: Client): Connection;

/** A function that publishes to a topic; the same one from render to render. */
export declare function usePublish<Data = never>(topic: Said<Data>, options?: PublisherOptions & Client): Publish<Data>;
export declare function usePublish<const Text extends string, Map extends Payloads = Registered>(topic: Text & TopicIn<Text, Map>, options?: PublisherOptions & Client<Map>): Publish<SentTo<Text, Map>>;
