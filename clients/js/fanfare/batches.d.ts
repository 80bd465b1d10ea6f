import type { DataOf, Event, Fanfare, FanfareError, Payloads, PublishOptions, Receipt, TopicIn } from "../fanfare.js";

/** An event of a batch. What ends with a session (`bound`) is published by itself. */
export interface Publication<Topic extends string = string, Data = unknown> extends Omit<PublishOptions, "key" | "queue" | "timeout" | "signal" | "bound"> {
  topic: Topic;
  /** May be left out where the value is `removed`. */
  data?: Data;
}

/** What may be published to each of these topics, by itself. */
export type PublicationIn<Topic extends string, Map> = Topic extends string ? Publication<Topic & TopicIn<Topic, Map>, DataOf<Topic, Map>> : never;

export interface BatchOptions {
  /** What makes repeats of the call one, also over restarts of yours; a new one for each call unless said. */
  key?: string;
  /** Milliseconds until a batch is given up; 30,000. 0 for as long as it takes. */
  timeout?: number;
  signal?: AbortSignal;
}

/** What `publishAll` rejects with. */
export interface BatchError extends FanfareError {
  /** Of the events of the batches before, which are stored. Of those behind them none is, unless `code` is `outcome_unknown`. */
  receipts: Receipt[];
  /** Under which the same events may be published again: what is stored stays so, once. */
  key: string;
  /** Which event was refused, where the broker says so. */
  index?: number;
  /** The newest event of the topic, where `code` is `not_latest` and it may be read. */
  event?: Event;
}

/** Publishes events in their order, each once, in batches of up to 1,000 events or 4 MiB; each batch is stored whole or not at all. */
export declare function publishAll<Map extends Payloads, const Topic extends string>(
  fanfare: Fanfare<Map>,
  events: Iterable<{ topic: Topic } & PublicationIn<Topic, Map>> | AsyncIterable<{ topic: Topic } & PublicationIn<Topic, Map>>,
  options?: BatchOptions,
): Promise<Receipt[]>;
