// Gives the page, and who opens it a name that nobody else has: a guest is whoever knows the secret that the name is made of.

import { createHash } from "node:crypto";
import { refusal, serve, token } from "../serve.js";

serve(new URL("page/", import.meta.url), {
  "POST /token": (body) => {
    if (!(typeof body?.secret === "string" && body.secret.length >= 32)) throw refusal(400, "a secret of 32 characters or more");
    const guest = createHash("sha256").update(body.secret).digest("hex").slice(0, 20);
    return { guest, token: token(guest) };
  },
});
