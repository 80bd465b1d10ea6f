import type { Event, PublishOptions, Receipt } from "../fanfare.js";

/** A reason of the protocol's table of close codes. */
export type CloseReason =
  | "policy" | "internal" | "restart" | "unavailable" | "bad_message" | "unauthorized" | "forbidden" | "heartbeat_missed" | "slow_consumer" | "too_many";

export interface TestBrokerOptions {
  /** Time passes by `advance` and `sleep` alone, for the whole runtime, until `close`. Not beside a framework's own timers. */
  fakeTime?: boolean;
  /** Patterns of the topics whose members are told on `$presence.` and their name. */
  presence?: string[];
  /** Who shows this token; what it throws is the refusal. Without it every token is good, and nobody's. */
  authenticate?(token: string): { user?: string; info?: unknown } | undefined;
}

/**
 * A broker in memory: `new Fanfare(broker.url, { WebSocket: broker.WebSocket })` speaks to it as to a real one. What it is asked to
 * do is done, and heard by clients whose timers need no time, once its promise resolves.
 */
export declare class TestBroker {
  constructor(options?: TestBrokerOptions);

  readonly url: string;
  readonly WebSocket: new (url: string) => unknown;
  /**
   * What it answers over HTTP: publishing, `/v1/snapshot`, `/v1/events`, `/v1/topics/…/events`, `/v1/topics/…/presence`, `/v1/cursor`, `POST /v1/sse`. The runtime's `fetch`
   * gives it what goes to its `url`, until `close`.
   */
  readonly fetch: typeof fetch;
  /** How many connections are open. */
  readonly connections: number;

  /** Publishes as a backend does. */
  publish(topic: string, data?: unknown, options?: Omit<PublishOptions, "queue" | "timeout" | "signal" | "bound">): Promise<Receipt>;
  /** The current value of a topic. */
  latest(topic: string): Event | undefined;

  /** Breaks each connection. */
  drop(): Promise<void>;
  /** Nothing comes through any more, and nobody is told; new connections come through. */
  stall(): Promise<void>;
  /** Away until `start`; what is kept is kept. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Events of these topics, or of any, are lost: who is live is told of a gap. */
  gap(...topics: string[]): Promise<void>;
  /** What is kept is gone but the current values: a gap for who comes back from behind it. */
  forget(): void;
  /** The whole log is gone. */
  wipe(): void;
  /** Credentials are over: each session ends with `unauthorized`. */
  expire(): Promise<void>;
  /** Credentials will be over soon. */
  warn(expiresMs?: number): Promise<void>;
  /** Announces a planned stop, which comes after that time. */
  goaway(withinMs?: number): Promise<void>;
  /** The broker can't do its whole job; with nothing, it can again. */
  trouble(message?: string): Promise<void>;
  /** Ends each connection. */
  end(code: CloseReason, message?: string): Promise<void>;
  /** Ends each connection, and each new one, until `refuse(null)`. */
  refuse(code: CloseReason | null, message?: string): Promise<void>;
  /** Nobody may subscribe to this pattern, nor publish to what it matches, until `allow`. */
  forbid(pattern: string): void;
  allow(pattern: string): void;

  /** Lets so many milliseconds pass, each timer in its turn. With `fakeTime`. */
  advance(ms: number): Promise<void>;
  /**
   * The client's machine sleeps: time passes, and no timer runs. Beyond what a broker waits for a heartbeat the connection is
   * dead afterwards, and nobody says so. Where time is a framework's, set its clock forward before.
   */
  sleep(ms: number): Promise<void>;
  /** Resolves when everything on its way has come. */
  settled(): Promise<void>;
  /** Ends it, and gives the runtime its own time back. */
  close(): void;
}
