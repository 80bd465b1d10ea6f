// CBOR: what the compiler lets a client be made of.

import { Fanfare } from "fanfare";
import { cbor, decode } from "fanfare/cbor";

const fanfare = new Fanfare<{ "frames.*": Uint8Array }>("https://push.example", cbor({ token: "x", queue: true }));
fanfare.subscribe("frames.a", ({ data }) => data.byteLength);
void fanfare.publish("frames.a", new Uint8Array(3));
new Fanfare(cbor());
// @ts-expect-error there is no JSON text
cbor({ raw: true });
// @ts-expect-error it may be anything
decode(new Uint8Array(1)).length;
