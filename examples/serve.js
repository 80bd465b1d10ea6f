// What every example's server does: it gives its page, and tokens to those who may have one.
//
// In your own application your web framework does the first, and its library for JSON Web Tokens the second.

import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

const { PORT, FANFARE_URL, FANFARE_JWT_SECRET } = process.env;
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json" };
/** The broker's address in pages, as they stand in their files. */
const BROKER = "http://127.0.0.1:8080";
const BODY_BYTES = 65_536;

/**
 * Serves the files of `directory` (a URL) on PORT, and what `answers` has a function for: `"POST /token": async (body) => …`
 * returns text, what becomes JSON, or a `Response`; what it throws with a `status` is answered with that.
 */
export function serve(directory, answers = {}) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, BROKER).pathname;
    try {
      const answer = answers[`${request.method} ${path}`];
      if (answer) {
        const said = await answer(await bodyOf(request));
        if (said instanceof Response) return response.writeHead(said.status, Object.fromEntries(said.headers)).end(await said.text());
        const isText = typeof said === "string";
        response.writeHead(200, { "content-type": isText ? "text/plain" : "application/json", "cache-control": "no-store" });
        response.end(isText ? said : JSON.stringify(said));
      } else {
        const [type, body] = await file(directory, path);
        response.writeHead(200, { "content-type": `${type}; charset=utf-8`, "cache-control": "no-cache" }).end(body);
      }
    } catch ({ status = 500, message }) {
      response.writeHead(status, { "content-type": "text/plain" }).end(message);
    }
  });
  server.listen(Number(PORT), "127.0.0.1", () => console.log(`the page is at http://127.0.0.1:${PORT}/`));
}

/** An error that is answered with `status`. */
export const refusal = (status, message) => Object.assign(new Error(message), { status });

/** A token for `sub` that grants what `fanfare` says, such as `{publish: ["room.*"]}`, for `seconds`. */
export function token(sub, fanfare = {}, seconds = 600) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub, exp: Math.floor(Date.now() / 1000) + seconds, fanfare };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", FANFARE_JWT_SECRET).update(text).digest("base64url")}`;
}

async function file(directory, path) {
  const url = new URL(`.${path === "/" ? "/index.html" : path}`, directory);
  const type = TYPES[extname(url.pathname)];
  if (!type || !url.href.startsWith(directory.href)) throw refusal(404, "there is nothing here");
  const body = await readFile(fileURLToPath(url)).catch(() => { throw refusal(404, "there is nothing here"); });
  return [type, type === TYPES[".html"] ? body.toString().replaceAll(BROKER, FANFARE_URL) : body];
}

async function bodyOf(request) {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) {
    if ((text += chunk).length > BODY_BYTES) throw refusal(413, "too large");
  }
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw refusal(400, "not JSON");
  }
}
