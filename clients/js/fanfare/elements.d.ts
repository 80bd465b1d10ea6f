import type { Fanfare } from "../fanfare.js";

/** Has the elements use this client, with its token, wherever they would make one of their own for its broker. */
export declare function provideFanfare(fanfare: Fanfare<any>): void;

/**
 * `<fanfare-value topic="host.ada.cpu" path="percent" digits="1">–</fanfare-value>`: the value of a topic, or what stands at `path`
 * in it. While there is none, what the page said.
 *
 * Attributes: `topic`, `path`, `digits` (behind the point), `max-rate` (a second), `url` (of the broker; the one that this file
 * came from). Both elements have `stale` until everything has come, and while a connection or what it missed is being made good;
 * and `error`, the code of what keeps everything from coming (or `invalid_url`, `invalid_topic`), of which an event `error`, which does not bubble,
 * has the rest as its `detail`, a `Failure`.
 */
export declare class FanfareValue extends HTMLElement {}

/**
 * `<fanfare-list pattern="orders.*" tail="20">`: a row for each of the newest events, the newest last, or with `map` for each topic
 * that has a value. A removal takes out the rows of its topic. A row is the first element of its `<template>`, before which the rows stand; `data-field` there says what
 * goes where: a path into the data, or with `@` into the event (`@topic`, `@time`, `@from.user`), with `data-digits`.
 *
 * Attributes: `pattern`, `tail` (50), `map`, `reversed`, `max-rate` (with `map`), `url`.
 */
export declare class FanfareList extends HTMLElement {}

declare global {
  interface HTMLElementTagNameMap {
    "fanfare-value": FanfareValue;
    "fanfare-list": FanfareList;
  }
}
