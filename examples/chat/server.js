// The page, a tiny login, and tokens for who is logged in.
//
// A name belongs to who takes it first, for as long as this process runs. In your own application this is the login that you have.

import { randomUUID } from "node:crypto";
import { refusal, serve, token } from "../serve.js";

const MAX_NAMES = 10_000;
const GRANTS = { subscribe: ["chat.>", "$presence.chat.*"], publish: ["chat.>"] };

/** What the login gave to a page, and the name that it stands for. */
const nameByPass = new Map();
const taken = new Set();

serve(new URL("page/", import.meta.url), {
  "POST /login"(body) {
    const name = String(body?.name ?? "").normalize("NFKC").replace(/\s+/g, " ").trim();
    if (!/^[\p{L}\p{N}][\p{L}\p{N} .'-]{0,23}$/u.test(name)) throw refusal(422, "A name is 1 to 24 letters and digits.");
    if (taken.has(name.toLowerCase())) throw refusal(409, `${name} is somebody else already.`);
    if (taken.size >= MAX_NAMES) throw refusal(503, "There is no room for more names.");
    taken.add(name.toLowerCase());
    const pass = randomUUID();
    nameByPass.set(pass, name);
    return { pass, name };
  },

  "POST /token"(body) {
    const name = nameByPass.get(body?.pass);
    if (!name) throw refusal(401, "Log in first.");
    return token(name, GRANTS);
  },
});
