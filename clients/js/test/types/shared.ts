// One connection for all tabs: the options that it takes and gives.

import { Fanfare } from "fanfare";
import { cbor } from "fanfare/cbor";
import { shared } from "fanfare/shared";

new Fanfare<{ a: number }>("https://push.example", shared("ada", cbor({ token: async () => "x" }))).subscribe("a", ({ data }) => data.toFixed());
// @ts-expect-error it says who is logged in
shared({ token: "x" });
