import type { ReactElement, ReactNode } from "react";
import type { DataOf, Fanfare, Payloads, PublishOptions, Receipt } from "../fanfare.js";
import type {
  Connection, Entries, Latest, LatestOptions, List, ListOptions, ListStore, MapOptions, Presence, PresenceOptions, PublisherOptions, Reduced, ReducedOptions,
} from "./stores.js";

export interface Client<Map extends Payloads = any> {
  /** Another client than the one around the component. */
  client?: Fanfare<Map>;
}

/** Gives a client to the components within. */
export declare function FanfareProvider(props: { client: Fanfare<any>; children?: ReactNode }): ReactElement;

/** The client around the component. */
export declare function useFanfare<Map extends Payloads = {}>(client?: Fanfare<Map>): Fanfare<Map>;

/** The value of a topic; of none (null), nothing yet. */
export declare function useLatest<Data = unknown>(topic: string | null | undefined, options?: LatestOptions & Client): Latest<Data>;
export declare function useLatest<Map extends Payloads, const Text extends string>(topic: Text | null | undefined, options: LatestOptions & { client: Fanfare<Map> }): Latest<DataOf<Text, Map>>;

/** The values of all topics that match. */
export declare function useMap<Data = unknown>(pattern: string | null | undefined, options?: MapOptions & Client): Entries<Data>;
export declare function useMap<Map extends Payloads, const Text extends string>(pattern: Text | null | undefined, options: MapOptions & { client: Fanfare<Map> }): Entries<DataOf<Text, Map>>;

/** A state of the component's own that events change. */
export declare function useEvents<State, Data = unknown>(pattern: string | null | undefined, options: ReducedOptions<State, Data> & Client): Reduced<State>;
/** The newest events, and those that come. */
export declare function useEvents<Data = unknown>(pattern: string | null | undefined, options?: ListOptions & Client & { reduce?: undefined }): List<Data> & Pick<ListStore, "older">;

/** Who is in a topic whose rule has presence. */
export declare function usePresence(topic: string | null | undefined, options?: PresenceOptions & Client): Presence;

/** How it goes. */
export declare function useConnection(options?: Client): Connection;

/** A function that publishes to a topic; the same one from render to render. */
export declare function usePublish<Data = unknown>(topic: string, options?: PublisherOptions & Client): (data?: Data, options?: PublishOptions) => Promise<Receipt>;
