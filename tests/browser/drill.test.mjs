// The drill: each thing that goes wrong at night is caused for real, and within 5 s the console and `fanfare top` say what it is, and within two
// scrapes its alert fires. Nobody looks at a log.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { atEnd, eventually, launchBrowser, signedToken, startBroker, temporaryDirectory } from "./harness.mjs";
import { sleeper, startRedis, watch } from "./watch.mjs";

const options = { timeout: 180_000 };
const SECRET = "a secret of at least thirty-two bytes";
const KEY = "a-key-for-this-test-and-no-other-0123456789";
const KEYS = `[auth]\napi_keys = ["${KEY}"]\n`;
const CLOSED = `${KEYS}jwt_secret = "${SECRET}"\n`;

let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** Publishes text of so many bytes, and returns the status of the answer. */
async function publishText({ url }, bytes) {
  const headers = { Authorization: `Bearer ${KEY}`, "Content-Type": "text/plain" };
  const { status } = await fetch(`${url}/v1/topics/a/events`, { method: "POST", headers, body: "x".repeat(bytes) });
  return status;
}

/** The value of a family without labels, or with these. */
async function figure({ url }, name) {
  const text = await (await fetch(`${url}/metrics`, { headers: { Authorization: `Bearer ${KEY}` } })).text();
  return Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1]);
}

/** How many bytes wait for the slowest client, in this moment: the gauge says it once a second. */
async function queued({ url }) {
  const answer = await fetch(`${url}/v1/sessions?sort=queued_bytes`, { headers: { Authorization: `Bearer ${KEY}` } });
  return (await answer.json()).sessions[0].queued_bytes;
}

/** A server on this machine that answers what it is told to, until it is gone, or hangs: then it takes what it is asked, and `asked` says how often, but answers nothing. */
async function startTarget(t, answer = "") {
  let isHanging = false, asked = 0;
  const server = createServer((request, response) => {
    request.resume();
    if (isHanging) asked += 1;
    else response.end(answer);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const gone = () => new Promise((closed) => { server.close(closed); server.closeAllConnections(); });
  atEnd(t, () => server.listening && gone());
  return { url: `http://127.0.0.1:${server.address().port}/`, gone, hang: () => { isHanging = true; }, asked: () => asked };
}

test("a slow client is named before it is cut off, and then said to have been", options, async (t) => {
  const broker = await startBroker(t, { config: CLOSED, env: { FANFARE_LIMITS_SEND_BUFFER_BYTES: "16KiB", FANFARE_HISTORY_STORAGE: "memory" } });
  const seen = await watch(t, browser, broker, { key: KEY });
  await sleeper(t, broker, `topic=a&access_token=${signedToken(SECRET, { subscribe: ["a"] })}`);
  const publishUntil = (isSo) => eventually(async () => {
    for (let n = 0; n < 5; n++) assert.equal(await publishText(broker, 20_000), 201);
    return isSo();
  }, `${isSo}`, 60_000);
  await seen.told(
    () => publishUntil(async () => await queued(broker) > 600_000),
    { console: /A client is slow: ada.*behind.*node \w+.*max_rate.*Runbook/s, top: /client ada: \S+ wait, \S+ behind[^]*max_rate/, alert: "FanfareClientBehind" },
  );
  await seen.told(
    () => publishUntil(async () => await figure(broker, 'fanfare_closes_total{code="slow_consumer"}') > 0),
    { console: /Slow clients were cut off.*1 within a minute.*max_rate/s, top: /clients: 1 cut off within a minute/, alert: "FanfareSlowClients" },
  );
});

test("a full disk", options, async (t) => {
  const directory = await temporaryDirectory(t);
  const run = promisify(execFile);
  // Of its own, so that it can be filled.
  const isMounted = await run("mount", ["-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", directory]).then(() => true, () => false);
  if (!isMounted) return t.skip("this needs root");
  atEnd(t, () => run("umount", ["--lazy", directory]));
  const broker = await startBroker(t, { directory, config: CLOSED });
  const seen = await watch(t, browser, broker, { key: KEY });
  await seen.told(
    async () => {
      let published = 0;
      while (await publishText(broker, 50_000) !== 503) assert.ok(++published < 1_000, "it is never full");
    },
    { console: /The history can't be written.*no space.*, for \d.*node \w+.*Make space.*Runbook/s, top: /history: [^\n]*no space[^\n]* \(for \w+\)[^]*Make space/, alert: "FanfareStorageFull" },
  );
});

for (const [how, cause] of [["is gone", (redis) => redis.kill()], ["hangs", (redis) => redis.hang()]]) test(`Redis that ${how}`, options, async (t) => {
  const redis = await startRedis(t);
  const [broker] = await startNodes(t, redis, 1);
  const seen = await watch(t, browser, broker, { key: KEY });
  await seen.told(
    () => cause(redis),
    { console: /^Redis is away.*, for \d.*node \w+.*See that Redis runs.*Runbook/s, top: /redis: [^\n]+ \(for \w+\)[^]*See that Redis runs/, alert: "FanfareRedisAway" },
  );
});

for (const [how, cause] of [["was killed", (node) => node.stop("SIGKILL")], ["hangs", (node) => node.hang()]]) test(`a node that ${how}`, options, async (t) => {
  const redis = await startRedis(t);
  const [broker, other] = await startNodes(t, redis, 2);
  const seen = await watch(t, browser, broker, { key: KEY, brokers: [broker, other] });
  await seen.told(
    () => cause(other),
    { console: /A node is away.*nothing came of it for \d.*node \w+.*See whether its process runs.*Runbook/s, top: /\w+ away: it has said nothing for \d s[^]*See whether its process runs/, alert: "FanfareDown" },
  );
});

/** An issuer with a key of its own, and a token of its that is good for a while. */
async function startIssuer(t) {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const issuer = await startTarget(t, JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "one", alg: "RS256", use: "sig" }] }));
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "RS256", kid: "one", typ: "JWT" })}.${part({ sub: "ada", exp: Math.floor(Date.now() / 1000) + 600, fanfare: { subscribe: ["a"] } })}`;
  return { ...issuer, token: `${text}.${sign("sha256", Buffer.from(text), privateKey).toString("base64url")}` };
}

/** The status of the answer to who shows a token. */
const statusFor = async ({ url }, token) => (await fetch(`${url}/v1/topics/a`, { headers: { Authorization: `Bearer ${token}` } })).status;

test("a token issuer that is down", options, async (t) => {
  const issuer = await startIssuer(t);
  // Keys are in force for a moment only, so that it shows within this test.
  const config = `${KEYS}jwks_url = "${issuer.url}"\njwks_refresh = "5s"\njwks_keep = "6s"\n`;
  const broker = await startBroker(t, { config });
  const ask = () => statusFor(broker, issuer.token);
  await eventually(async () => await ask() === 200, "the token is good");
  const seen = await watch(t, browser, broker, { key: KEY });
  await seen.told(
    async () => {
      await issuer.gone();
      await eventually(async () => await ask() === 503, "no keys are in force", 30_000);
    },
    { console: /The token issuer is down.*for \d.*tokens can't be checked.*node \w+.*auth\.jwks_url.*Runbook/s, top: /issuer: [^\n]+, tokens can't be checked \(for \w+\)[^]*auth\.jwks_url/, alert: "FanfareIssuerDown" },
  );
});

// Who is gone refuses at once; who hangs says nothing, and is waited for.
test("a token issuer that hangs", options, async (t) => {
  const issuer = await startIssuer(t);
  const broker = await startBroker(t, { config: `${KEYS}jwks_url = "${issuer.url}"\njwks_refresh = "5s"\njwks_keep = "1h"\n` });
  await eventually(async () => await statusFor(broker, issuer.token) === 200, "the token is good");
  const seen = await watch(t, browser, broker, { key: KEY });
  await seen.told(
    async () => {
      issuer.hang();
      await eventually(() => issuer.asked() > 0, "it is asked for its keys");
    },
    // Whoever has a known key is let in, so nobody is called at night.
    { console: /The token issuer is down.*no answer yet, for \d.*known keys still hold.*node \w+.*auth\.jwks_url.*Runbook/s, top: /issuer: there is no answer yet, known keys still hold \(for \w+\)[^]*auth\.jwks_url/ },
  );
});

test("a herd", options, async (t) => {
  const broker = await startBroker(t, { config: CLOSED });
  const seen = await watch(t, browser, broker, { key: KEY });
  await seen.told(
    () => Promise.all(Array.from({ length: 150 }, () => sleeper(t, broker, `topic=a&access_token=${KEY}`))),
    { console: /Many clients come at once.*within 10 s.*node \w+.*connects_per_second.*Runbook/s, top: /herd: \d+ clients came within 10 s[^]*connects_per_second/, alert: "FanfareHerd" },
  );
});

const hook = (target) => `${CLOSED}[notices]\nsessions = true\n[[webhooks]]\nname = "crm"\nurl = "${target.url}"\nsecret = "whsec_${Buffer.alloc(32, 7).toString("base64")}"\nevents = ["session.connected"]\n`;

test("the target of a webhook that is down", options, async (t) => {
  const target = await startTarget(t);
  const broker = await startBroker(t, { config: hook(target) });
  const seen = await watch(t, browser, broker, { key: KEY });
  await seen.told(
    async () => {
      await target.gone();
      await sleeper(t, broker, `topic=a&access_token=${KEY}`);
    },
    { console: /Webhook crm is not taken.*the oldest notice waits for \d.*node \w+.*Have its target answer.*Runbook/s, top: /webhook crm: [^\n]+ behind\)[^]*Have its target answer/, alert: "FanfareWebhookFails" },
  );
});

test("the target of a webhook that hangs", options, async (t) => {
  const target = await startTarget(t);
  const broker = await startBroker(t, { config: hook(target) });
  const seen = await watch(t, browser, broker, { key: KEY });
  await seen.told(
    async () => {
      target.hang();
      await sleeper(t, broker, `topic=a&access_token=${KEY}`);
      await eventually(() => target.asked() > 0, "the notice is posted");
    },
    // It may answer yet: the alert counts posts that came to nothing.
    { console: /Webhook crm is not taken.*no answer yet.*the oldest notice waits for \d.*node \w+.*Have its target answer.*Runbook/s, top: /webhook crm: there is no answer yet \([^\n]+ behind\)[^]*Have its target answer/ },
  );
});

/** Nodes that share a Redis, once each knows of all. */
async function startNodes(t, redis, count) {
  const config = `${CLOSED}[redis]\nurl = "${redis.url}"\n`;
  const nodes = [];
  for (let n = 0; n < count; n++) nodes.push(await startBroker(t, { config }));
  for (const node of nodes) await eventually(async () => await figure(node, "fanfare_nodes") === count, "all nodes know of each other");
  return nodes;
}
