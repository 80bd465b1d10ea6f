import type { Cursor, DataOf, Event, Failure, Fanfare, PatternIn, Payloads, PublishOptions, Receipt, Said, SentTo, StateChange, TopicIn } from "../fanfare.js";

/** A value that changes. Its contract is that of Svelte's stores; its subscription is open as long as it has listeners. */
export interface Store<Value> {
  /** As its listeners were last told: a new object only where something changed, and never changed itself. */
  readonly current: Value;
  /** What it is before anything was heard; what a server renders. */
  readonly initial: Value;
  /** Calls `run` at once with `current`, and after changes, at most once an animation frame. The undo may be called twice. */
  subscribe(run: (value: Value) => void): () => void;
}

/** How far what is shown can be relied on. */
export interface Standing {
  /** True until everything has come, and while a connection or what it missed is being made good. */
  stale: boolean;
  /**
   * Why nothing comes: the broker refuses the pattern or the whole session, does not let the page's origin in (`origin_not_allowed`), does not answer
   * (`unreachable`), or tells of nobody (`presence_off`); there is no token (`token`), or the client was closed (`closed`). Or which bound
   * was met (`too_many`), or what `load` failed by (`load`). Else null.
   */
  error: Failure | null;
}

export interface Latest<Data = unknown> extends Standing {
  /** Undefined until there is one, and once it is removed or expired. */
  data: Data | undefined;
  /** The newest event, be it the one that removed the value. */
  event: Event<Data> | undefined;
}

export interface Entries<Data = unknown> extends Standing {
  /** Topic → the event that is its value. */
  entries: ReadonlyMap<string, Event<Data>>;
}

export interface List<Data = unknown> extends Standing {
  /** In the order of the log, without a hole. */
  events: readonly Event<Data>[];
  /** Whether there are older ones, for `older()`. */
  more: boolean;
  /** Whether older ones are on their way. */
  loading: boolean;
}

export interface ListStore<Data = unknown> extends Store<List<Data>> {
  /** Puts up to `n` older events before those that are there; rejects with a `FanfareError`. */
  older(n?: number): Promise<void>;
}

/** A session that is subscribed to a topic by its name. */
export interface Member {
  topic: string;
  session: string;
  user?: string;
  /** What the issuer of its token says of it. */
  info?: unknown;
  since: string;
  transport: string;
  node?: string;
  /** How many sessions its user has in the topic. */
  user_sessions?: number;
}

export interface Presence extends Standing {
  members: readonly Member[];
}

export interface Reduced<State> extends Standing {
  /** What `load` gave, or `initial`, and all events since; undefined until there is one. */
  state: State | undefined;
  /** Whether `load` is at work. */
  loading: boolean;
}

/** How it goes, as `fanfare.on("state")` tells. */
export type Connection = StateChange;

export interface LatestOptions {
  /** No more than so many a second of each topic, each the newest. */
  maxRate?: number;
}

export interface MapOptions extends LatestOptions {
  /** Topics that it holds; 10,000. Further ones are left out, and `error` is `too_many`. */
  max?: number;
}

export interface ListOptions {
  /** How many of the newest events it begins with; 50. */
  tail?: number;
  /** Events that it holds; 10,000. Those at the front go, and `more` says that there were some; `older` rejects (`too_many`). */
  max?: number;
}

export interface PresenceOptions {
  /** Members that it holds; 10,000. Further ones are left out, and `error` is `too_many`. */
  max?: number;
}

export interface ReducedOptions<State, Data = unknown> {
  /** What becomes of the state by an event. It is given each event once and in order, and changes nothing itself. */
  reduce(state: State, event: Event<Data>): State;
  /**
   * The state from an application's own API, and the place of the log that was read (`GET /v1/cursor`) before it: called at the
   * beginning, and again only after a gap. Without a `since` it is called once all is live, and events that come meanwhile
   * are held back and applied after it; then they may say again what the state says already.
   */
  load?(): Promise<{ state: State; since?: Cursor }> | { state: State; since?: Cursor };
  /** The state to begin with, where nothing is loaded. */
  initial?: State;
  /** Where to begin, where nothing is loaded: after a place, or with the newest N events. */
  since?: Cursor;
  tail?: number;
  /** Events that are held back while it loads; 1,000. With more it is loaded again, and `error` is `too_many` meanwhile. */
  buffer?: number;
}

/** The value of a topic. */
export declare function latest<Data = never>(fanfare: Fanfare<any>, topic: Said<Data>, options?: LatestOptions): Store<Latest<Data>>;
export declare function latest<Map extends Payloads, const Text extends string>(fanfare: Fanfare<Map>, topic: Text & TopicIn<Text, Map>, options?: LatestOptions): Store<Latest<DataOf<Text, Map>>>;

/** The values of all topics that match. */
export declare function map<Data = never>(fanfare: Fanfare<any>, pattern: Said<Data>, options?: MapOptions): Store<Entries<Data>>;
export declare function map<Map extends Payloads, const Text extends string>(fanfare: Fanfare<Map>, pattern: Text & PatternIn<Text, Map>, options?: MapOptions): Store<Entries<DataOf<Text, Map>>>;

/** The newest events, and those that come. */
export declare function list<Data = never>(fanfare: Fanfare<any>, pattern: Said<Data>, options?: ListOptions): ListStore<Data>;
export declare function list<Map extends Payloads, const Text extends string>(fanfare: Fanfare<Map>, pattern: Text & PatternIn<Text, Map>, options?: ListOptions): ListStore<DataOf<Text, Map>>;

/** Who is in a topic whose rule has presence. */
export declare function presence<Map extends Payloads, const Text extends string>(fanfare: Fanfare<Map>, topic: Text & TopicIn<Text, Map>, options?: PresenceOptions): Store<Presence>;

/** A state of one's own that events change. */
export declare function reduced<State, Data = never>(fanfare: Fanfare<any>, pattern: Said<Data>, options: ReducedOptions<State, Data>): Store<Reduced<State>>;
export declare function reduced<State, Map extends Payloads, const Text extends string>(fanfare: Fanfare<Map>, pattern: Text & PatternIn<Text, Map>, options: ReducedOptions<State, DataOf<Text, Map>>): Store<Reduced<State>>;

/** How it goes. */
export declare function connection(fanfare: Fanfare<any>): Store<Connection>;

export interface PublisherOptions extends PublishOptions {
  /** At least so many milliseconds between two: the newest takes the place of one that waits, and the last one always goes. */
  throttle?: number;
}

/** What publishes to its topic, and resolves with the broker's answer. */
export type Publish<Data = unknown> = (data?: Data, options?: PublishOptions) => Promise<Receipt>;

/** Publishes to a topic: what waits is replaced by what comes, and each call resolves with what became of the one that went. What is refused for want of a connection (`offline`, `closed`) says in its `message` why there is none. */
export declare function publisher<Data = never>(fanfare: Fanfare<any>, topic: Said<Data>, options?: PublisherOptions): Publish<Data>;
export declare function publisher<Map extends Payloads, const Text extends string>(fanfare: Fanfare<Map>, topic: Text & TopicIn<Text, Map>, options?: PublisherOptions): Publish<SentTo<Text, Map>>;
