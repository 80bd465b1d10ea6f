/** A cursor: a place in the broker's log. Opaque: keep it, and give it back. */
export type Cursor = string;

/** Topic or pattern → what its events carry. */
export type Payloads = object;

/**
 * What an application says once of all its topics, so that hooks and composables know them without being given a client:
 * `declare module "fanfare" { interface Register { topics: { "orders.*": Order } } }`.
 */
export interface Register {}

/** The topics of `Register`; those of a client that is told of no others. */
export type Registered = Register extends { topics: infer Map extends Payloads } ? Map : {};

/** An event as its handlers get it. */
export interface Event<Data = unknown, Topic extends string = string> {
  topic: Topic;
  data: Data;
  /** Its place; none on events that are not kept. */
  id?: Cursor;
  /** RFC 3339. */
  time: string;
  type?: string;
  /** Who sent it, as the broker says. */
  from?: { user?: string; session?: string };
  version?: number;
  epoch?: string;
  expires?: string;
  /** The topic has no current value any more. */
  removed?: true;
  /** Why, where the broker removed it: `expired`, `left`. */
  reason?: string;
  /** A current value, of before the subscription began. */
  snapshot?: true;
  /** The newest of its topic; `skipped` were left out before it. */
  conflated?: true;
  skipped?: number;
  encoding?: "base64";
  /** Whether this client sent it, by its `from` or by the answer to the publish. */
  own: boolean;
  /** The JSON text of `data` exactly as it was sent; with the option `raw` or `parse`. */
  raw?: string;
}

/** Events after `since` are gone; of these topics, or of any. */
export interface Gap {
  since: Cursor;
  topics?: string[];
  /** The patterns of this client that it concerns. */
  patterns: string[];
}

/**
 * What went wrong, by the broker's code or one of the client's: `handler`, `parse`, `schema`, `token`, `unreachable`, `origin_not_allowed`,
 * `no_websocket`, `version`, `invalid_option`.
 */
export interface Failure {
  code: string;
  message: string;
  /** The pattern that was refused. */
  pattern?: string;
  /** What a handler or `parse` threw; of `schema`, an error with the `topic` and the schema's `issues`. */
  error?: unknown;
}

/** A schema that says what data is, as Zod, Valibot, ArkType and others have it (Standard Schema). It has to answer at once. */
export interface Schema<Data = unknown> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown, ...rest: never[]) => unknown;
    readonly types?: { readonly input: unknown; readonly output: Data } | undefined;
  };
}

/** What a rejected promise of this client rejects with. */
export interface FanfareError extends Error {
  code: string;
}

export type State = "idle" | "connecting" | "live" | "waiting" | "refused" | "closed";

export interface StateChange {
  state: State;
  /** How many attempts failed in a row. */
  attempt: number;
  reason?: { code: string | number; message: string };
  /** When the next attempt is made, in milliseconds since 1970. */
  retryAt?: number;
  /** What the broker can't do for now; null where it can again. */
  trouble?: string | null;
}

type Segments<Text extends string> = Text extends `${infer Head}.${infer Rest}` ? [Head, ...Segments<Rest>] : [Text];

type MatchesSegments<Topic extends string[], Pattern extends string[]> =
  Pattern extends [">"] ? (Topic extends [string, ...string[]] ? true : false)
  : Pattern extends [infer First, ...infer Others extends string[]]
    ? Topic extends [infer Segment, ...infer Rest extends string[]]
      ? First extends "*" ? (Segment extends ">" ? false : MatchesSegments<Rest, Others>)
      : Segment extends First ? MatchesSegments<Rest, Others> : false
    : false
  : Topic extends [] ? true : false;

type KeysThatMatch<Text extends string, Map> = {
  [Key in keyof Map & string]: MatchesSegments<Segments<Text>, Segments<Key>> extends true ? Key : never;
}[keyof Map & string];

/** What the events of a topic or pattern carry: as the map says of itself, or of a pattern that covers it; else `unknown`. */
export type DataOf<Text extends string, Map> =
  Text extends keyof Map ? Map[Text]
  : [KeysThatMatch<Text, Map>] extends [never] ? unknown
  : Map[KeysThatMatch<Text, Map>];

type SegmentsMeet<One, Other> = One extends "*" ? true : Other extends "*" ? true : One extends Other ? true : Other extends One ? true : false;

type Meet<One extends string[], Other extends string[]> =
  One extends [">"] ? (Other extends [] ? false : true)
  : Other extends [">"] ? (One extends [] ? false : true)
  : One extends [infer First, ...infer Rest extends string[]]
    ? Other extends [infer Second, ...infer Others extends string[]]
      ? SegmentsMeet<First, Second> extends true ? Meet<Rest, Others> : false
    : false
  : Other extends [] ? true : false;

type KeysThatMeet<Text extends string, Map> = {
  [Key in keyof Map & string]: Meet<Segments<Text>, Segments<Key>> extends true ? Key : never;
}[keyof Map & string];

/** A topic or pattern that the map of a client has something to say of; the broker's own are in no map. */
export type PatternIn<Text extends string, Map> =
  0 extends 1 & Map ? Text
  : [keyof Map] extends [never] ? Text
  : string extends Text ? Text
  : Text extends `$${string}` ? Text
  : [KeysThatMeet<Text, Map>] extends [never] ? { "nothing in the map of this client matches": Text }
  : Text;

/** One topic, of those. */
export type TopicIn<Text extends string, Map> =
  Text extends `${string}*${string}` | `${string}>${string}` ? { "one topic is meant, and this is a pattern": Text } : PatternIn<Text, Map>;

/** What may be published to a topic. */
export type SentTo<Text extends string, Map> = unknown extends DataOf<Text, Map> ? unknown : DataOf<Text, Map> | undefined;

/** Text, where the caller says what its events carry; else nothing that there is, so that the map of the client is asked. */
export type Said<Data> = [Data] extends [never] ? never : string;

export interface SubscribeOptions {
  /** First the current value of each topic. Also behind a gap, as `last`. */
  snapshot?: boolean;
  /** First the newest N events of each topic. */
  last?: number;
  /** First the newest N events of all that match. */
  tail?: number;
  /** First each event after a cursor, a moment (RFC 3339), or as long ago as `-15m`. */
  since?: Cursor;
  /** To a slow screen the newest of each topic, instead of each event. */
  latest?: boolean;
  /** No more than so many a second of each topic, each the newest. */
  maxRate?: number;
  /** Takes the subscription back, as the undo does. */
  signal?: AbortSignal;
  /** All that it began with has come; also after each gap and each connection. */
  onLive?(): void;
  onGap?(gap: Gap): void;
  /** The broker refuses the pattern; with another token it is asked for again. */
  onError?(error: Failure): void;
}

export interface LoopOptions extends SubscribeOptions {
  /** How many events may wait for the loop; 1000. */
  buffer?: number;
  /** What becomes of the loop with more: an error, or less than all. */
  overflow?: "throw" | "latest" | "drop-oldest";
}

/** Takes back what it was given for, once. */
export interface Undo {
  (): void;
}

export type Handler<Data, Topic extends string> = (event: Event<Data, Topic>) => unknown;

export interface PublishOptions {
  type?: string;
  /** What makes repeats of a publish one; a new one for each publish, unless null. */
  key?: string | null;
  /** Waits for a connection, in its turn, instead of being refused while there is none. */
  queue?: boolean;
  /** Milliseconds until it is given up; 30,000, and without end where it is to be queued. */
  timeout?: number;
  signal?: AbortSignal;
  /** Not to this session; true for this client's own. */
  except?: true | string;
  removed?: boolean;
  version?: number;
  epoch?: string;
  if_latest?: "absent" | "present" | Cursor;
  ttl_ms?: number;
  /** Delivered, and not kept. */
  keep?: false;
  /** The value ends with this session, and is said again by the next one. Needs a WebSocket. */
  bound?: boolean;
}

export interface Receipt {
  /** The event's; none where it is not kept. */
  id?: Cursor;
  /** It was stored before, by the same key. */
  repeated?: true;
  /** A value with this version or a higher one is there. */
  superseded?: true;
  version?: number;
}

export interface Options<Map extends Payloads = Registered> {
  /** Who this is: a token, or a function that gives a fresh one, which is asked before each connection and before a token ends. */
  token?: string | (() => string | undefined | Promise<string | undefined>);
  /** A WebSocket for runtimes without one. Without any, event streams. */
  WebSocket?: (new (url: string) => unknown) | null;
  /** Milliseconds until a connection that nobody needs is closed; 5,000. */
  idleClose?: number;
  /** Whether publishes wait for a connection. */
  queue?: boolean;
  /** Whether events have `raw`. */
  raw?: boolean;
  /** What makes `data` of the JSON text. */
  parse?(raw: string, event: Event): unknown;
  /**
   * Topic or pattern → the schema of its data, which is what handlers get of it. That of the very topic counts, else the first one that covers it. What it
   * does not let through is told as an error, `schema`, and handed to nobody.
   */
  schemas?: { [Key in keyof Map]?: Schema<Map[Key]> };
}

export declare class Fanfare<Map extends Payloads = Registered> {
  /** The broker's address; where this file came from a broker, that one. Nothing is opened yet. */
  constructor(url?: string | URL, options?: Options<Map>);
  constructor(options: Options<Map>);

  readonly state: State;
  readonly url: string;
  /** The broker's name of the present session. */
  readonly session: string | null;

  /** Hears the events of a topic or pattern. */
  subscribe<const Text extends string>(pattern: Text & PatternIn<Text, Map>, handler: Handler<DataOf<Text, Map>, string>): Undo & Disposable;
  subscribe<const Text extends string>(pattern: Text & PatternIn<Text, Map>, options: SubscribeOptions, handler: Handler<DataOf<Text, Map>, string>): Undo & Disposable;
  /** For a loop: `for await (const event of fanfare.subscribe("orders.>"))`. */
  subscribe<const Text extends string>(pattern: Text & PatternIn<Text, Map>, options?: LoopOptions): Undo & Disposable & AsyncIterable<Event<DataOf<Text, Map>>>;

  /** Publishes, once however often the way breaks; rejects with a `FanfareError`. */
  publish<const Text extends string>(topic: Text & TopicIn<Text, Map>, data: SentTo<Text, Map>, options?: PublishOptions): Promise<Receipt>;

  on(name: "state", listener: (change: StateChange) => void): () => void;
  on(name: "gap", listener: (gap: Gap) => void): () => void;
  on(name: "error", listener: (failure: Failure) => void): () => void;
  on(name: "event", listener: (event: Event) => void): () => void;

  /** Resolves once all is live; rejects where the broker refuses. */
  ready(): Promise<void>;
  /** Connects anew, at once, from where it stands. */
  reconnect(): void;
  /** Lets go of the connection, until something else is wanted, or `reconnect()`, and goes on from where it stands. */
  disconnect(): void;
  /** A token as connections show it, for requests of another kind; undefined for who has no credential. */
  token(): Promise<string | undefined>;
  /** Asks `token` for another one, and shows it in place. */
  renew(): Promise<void>;
  /** Ends everything, for good. */
  close(): void;
}
