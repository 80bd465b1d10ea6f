// The page, and a name with a token for whoever opens it.

import { randomInt, randomUUID } from "node:crypto";
import { refusal, serve, token } from "../serve.js";

const MAX_GUESTS = 10_000;
const KINDS = ["brisk", "calm", "clever", "eager", "gentle", "keen", "lucky", "merry", "quiet", "swift"];
const ANIMALS = ["badger", "crane", "dolphin", "falcon", "heron", "lynx", "marten", "otter", "robin", "tapir"];

/** What a browser was given, and who it is. */
const userByPass = new Map();

/** A name that is one segment of a topic, and nobody else's. */
function newUser() {
  if (userByPass.size >= MAX_GUESTS) throw refusal(503, "There is no room for more guests.");
  return `${KINDS[randomInt(KINDS.length)]}-${ANIMALS[randomInt(ANIMALS.length)]}-${userByPass.size + 1}`;
}

serve(new URL("page/", import.meta.url), {
  "POST /guest"(body) {
    const known = userByPass.has(body?.pass);
    const pass = known ? body.pass : randomUUID();
    if (!known) userByPass.set(pass, newUser());
    const user = userByPass.get(pass);
    // No grants: what a guest may is what the rules of topics give to a user.
    return { pass, user, token: token(user) };
  },
});
