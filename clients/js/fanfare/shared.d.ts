import type { Options, Payloads, Registered } from "../fanfare.js";

/**
 * The options of a client that shares one connection with all tabs of this origin that give the same `name` for the same broker:
 * `new Fanfare(url, shared(user.id, { token }))`. `name` says who is logged in, and nothing else ever mixes: tabs of another
 * name, or of another broker, have another connection. Where a browser has no Web Locks or no `BroadcastChannel` (a page
 * that is not secure), the client has a connection of its own.
 */
export declare function shared<Map extends Payloads = Registered>(name: string, options?: Options<Map>): Options<Map>;
