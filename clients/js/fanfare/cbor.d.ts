import type { Options, Payloads, Registered } from "../fanfare.js";

/**
 * The options of a client that speaks CBOR in place of JSON: `new Fanfare(url, cbor({ token }))`. Binary data is a
 * `Uint8Array`, in events and where it is published as a whole; an integer that no number holds exactly is a `bigint`.
 * `raw` and `parse` are of JSON alone, and refused.
 */
export declare function cbor<Map extends Payloads = Registered>(options?: Omit<Options<Map>, "raw" | "parse">): Options<Map>;

/** What one item of CBOR (RFC 8949) is. Throws a `CborError` for what is malformed, or beyond the bounds. */
export declare function decode(bytes: Uint8Array, bounds?: {
  /** How many bytes at most; 64 MiB. */
  bytes?: number;
  /** How deep it may be nested; 256. */
  depth?: number;
}): unknown;

/** A JSON text as CBOR, its integers exactly. */
export declare function encode(json: string): Uint8Array;

/** Why bytes are no item. */
export declare class CborError extends Error {
  code: "bad_cbor";
}
