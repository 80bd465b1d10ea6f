// Many events a request, for who publishes from a server.
//
// A batch is stored whole or not at all. It goes over HTTP, and is sent again under its key until it is answered, so that it is
// stored once, also over restarts of the broker.

/** Well below what a broker takes (`limits.batch_events`, `limits.batch_bytes`). */
const MOST_EVENTS = 1000, MOST_BYTES = 4 * 1024 * 1024;
/** An attempt gets no longer; a broker answers within `history.commit_timeout`. */
const ATTEMPT_MS = 30_000;
/** Each broker knows a key for so long, however many come. */
const KEY_MS = 600_000;
/** How often a token is asked for anew where one was refused. */
const RENEWALS = 2;

/** What the same request, with the same key, may do better. */
const PASSING = /^(in_progress|outcome_unknown|unavailable|storage_full|too_many|internal)$/;
/** Statuses of what stands between, which does not speak as a broker does. */
const PASSING_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);
/** Who is told so by the system was not heard by anybody. */
const UNHEARD = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH)$/;
/** What a broker answers only where it did not store the batch before either. */
const CERTAIN = /^(not_latest|idempotency_mismatch)$/;

const failed = (code, message, more) => Object.assign(new Error(message), more, { code });

/** A key that no other call has. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
}

/**
 * Publishes events in their order, in as many batches as it takes, and resolves with the receipt of each. Where it rejects, the error
 * has the `receipts` of the batches before, the `key` to go on with, and the `index` of the event that was refused.
 */
export async function publishAll(fanfare, events, { key = newKey(), timeout = 30_000, signal } = {}) {
  const receipts = [];
  let number = 0;
  for await (const body of bodies(fanfare, events)) {
    try {
      receipts.push(...await send(fanfare, body, number ? `${key}/${number}` : key, timeout, signal));
    } catch (error) {
      const [, at] = /^events\[(\d+)\]/.exec(error.message) ?? [];
      throw Object.assign(error, { key, receipts }, at && { index: receipts.length + Number(at) });
    }
    number += 1;
  }
  return receipts;
}

/** The same events make the same batches each time, for their keys' sake. */
async function* bodies(fanfare, events) {
  const encoder = new TextEncoder();
  let texts = [], size = 0;
  for await (const { except, ...event } of events) {
    const text = JSON.stringify({ ...event, ...except && { except: except === true ? fanfare.session : except } });
    const bytes = encoder.encode(text).length + 1;
    if (texts.length && (texts.length === MOST_EVENTS || size + bytes > MOST_BYTES)) {
      yield `{"events":[${texts}]}`;
      [texts, size] = [[], 0];
    }
    texts.push(text);
    size += bytes;
  }
  if (texts.length) yield `{"events":[${texts}]}`;
}

/** Sends a batch until it is answered, and says what became of it. */
async function send(fanfare, body, key, timeout, signal) {
  const until = timeout ? Date.now() + timeout : Infinity;
  let unknownSince = Infinity, renewals = 0, code, message, event;
  const giveUp = (code, message) => unknownSince === Infinity || CERTAIN.test(code)
    ? failed(code, message, event && { event })
    : failed("outcome_unknown", `${message}, perhaps behind the batch`);
  for (let attempt = 0; ; attempt++) {
    if (signal?.aborted) throw giveUp("aborted", "given up");
    if (fanfare.state === "closed") throw giveUp("closed", "closed");
    const sentAt = Date.now();
    const problem = await ask(fanfare, body, key, Math.max(1, Math.min(ATTEMPT_MS, until - sentAt)), signal);
    if (problem.receipts) return problem.receipts;
    ({ code, message, event } = problem);
    if (problem.isUnknown) unknownSince = Math.min(unknownSince, sentAt);
    const isRenewed = code === "unauthorized" && renewals++ < RENEWALS;
    if (problem.isFinal && !isRenewed) throw giveUp(code, message);
    const waitMs = Math.max(problem.retryAfterMs ?? 0, Math.min(200 * 2 ** attempt, 5000) * (0.5 + Math.random() / 2));
    if (Date.now() + waitMs > until) throw giveUp("timeout", `no answer within ${timeout / 1000} s: ${message}`);
    if (Date.now() + waitMs > unknownSince + KEY_MS) throw giveUp("timeout", message);
    await pause(waitMs, signal);
  }
}

/** One attempt: `receipts`, or what went wrong. */
async function ask(fanfare, body, key, ms, signal) {
  let token, answer, said;
  try {
    token = await fanfare.token();
  } catch ({ code, message }) {
    return { code, message };
  }
  try {
    answer = await fetch(`${fanfare.url}v1/events`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key, ...token && { Authorization: `Bearer ${token}` } },
      body,
      credentials: "include",
      signal: signal ? AbortSignal.any([signal, AbortSignal.timeout(ms)]) : AbortSignal.timeout(ms),
    });
    said = await answer.text();
  } catch ({ message, cause }) {
    return { code: "unreachable", message, isUnknown: !UNHEARD.test(cause?.code) };
  }
  const { status, ok, headers } = answer;
  try { said = JSON.parse(said); } catch { said = { detail: "what answers is no broker: a proxy's page?" }; }
  if (ok && said.events) {
    const isRepeated = status === 200;
    return { receipts: said.events.map(({ time: _, topic: __, ...receipt }) => ({ ...receipt, ...isRepeated && !receipt.superseded && { repeated: true } })) };
  }
  const { code = `http_${status}`, detail: message, event } = said;
  const isFinal = said.code ? !PASSING.test(code) : !PASSING_STATUS.has(status);
  // Of what a proxy answers nobody knows whether the broker heard it.
  const isUnknown = code === "outcome_unknown" || code === "in_progress" || !said.code && !isFinal;
  return { code, message, event, isFinal, isUnknown, retryAfterMs: 1000 * (Number(headers.get("Retry-After")) || 0) };
}

function pause(ms, signal) {
  return new Promise((over) => {
    const end = () => { clearTimeout(timer); signal?.removeEventListener("abort", end); over(); };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
    if (signal?.aborted) end();
  });
}
