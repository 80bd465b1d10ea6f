// What is wrong with the options of a client or of a subscription, in words. It is loaded only where something is.

const FLAG = ["true or false", (value) => typeof value === "boolean"];
const TEXT = ["a text", (value) => typeof value === "string"];
const COUNT = ["a number above 0", (value) => Number.isFinite(value) && value > 0];
const FUNCTION = ["a function", (value) => typeof value === "function"];
const OBJECT = ["an object", (value) => typeof value === "object"];

/** Name → what it is to be. Null counts as absent. */
const OF_SUBSCRIPTION = {
  snapshot: FLAG, last: COUNT, tail: COUNT, since: ["a cursor, a moment or a time ago, as a text", TEXT[1]], latest: FLAG, maxRate: COUNT, signal: ["an AbortSignal", OBJECT[1]],
  onLive: FUNCTION, onGap: FUNCTION, onError: FUNCTION, buffer: COUNT, overflow: ['"throw", "latest" or "drop-oldest"', (value) => /^(throw|latest|drop-oldest)$/.test(value)],
};
const OF_CLIENT = {
  token: ["a text or a function", (value) => TEXT[1](value) || FUNCTION[1](value)], WebSocket: ["a class", FUNCTION[1]],
  idleClose: ["milliseconds", (value) => Number.isFinite(value) && value >= 0],
  queue: FLAG, raw: FLAG, parse: FUNCTION, schemas: ["an object of schemas, by topic or pattern", (value) => OBJECT[1](value) && Object.values(value).every((schema) => schema?.["~standard"]?.validate)], read: FUNCTION, write: FUNCTION,
};

/** How many letters it takes to make one name of another, whatever their case (Levenshtein). */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, n) => n);
  for (const [at, letter] of [...one.toLowerCase()].entries()) {
    const above = row;
    row = [at + 1];
    for (const [n, wanted] of [...other.toLowerCase()].entries()) row.push(Math.min(row[n] + 1, above[n + 1] + 1, above[n] + (letter !== wanted)));
  }
  return row.at(-1);
}

/** What to write in place of a name that is none. */
function instead(name, kinds) {
  if (kinds === OF_SUBSCRIPTION && name in OF_CLIENT) return `it is one of the client: new Fanfare(url, { ${name} })`;
  if (kinds === OF_CLIENT && name in OF_SUBSCRIPTION) return `it is one of a subscription: subscribe(pattern, { ${name} })`;
  const names = Object.keys(kinds);
  const near = names.map((each) => [distance(name, each), each]).sort(([one], [other]) => one - other)[0];
  return near[0] <= Math.max(2, name.length / 3) ? `is it ${near[1]}?` : `there are ${names.join(", ")}`;
}

const shown = (value) => typeof value === "string" ? JSON.stringify(value) : typeof value === "object" ? "an object" : typeof value === "function" ? "a function" : String(value);

function said(options, kinds) {
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(kinds, name)) return `no option is called ${name}; ${instead(name, kinds)}`;
    const [what, isSo] = kinds[name];
    if (value != null && !isSo(value)) return `${name} is to be ${what}, not ${shown(value)}`;
  }
  const { snapshot, last, tail } = options;
  return tail && (last || snapshot) && `tail and ${last ? "last" : "snapshot"} exclude each other: tail counts the events of all topics together, the other those of each`;
}

/** Throws what is wrong with the options of a subscription to `pattern`, or without one with those of a client; if anything is. */
export function refuse(options, pattern) {
  const isOfClient = pattern === undefined;
  const wrong = said(options, isOfClient ? OF_CLIENT : OF_SUBSCRIPTION);
  if (wrong) throw Object.assign(new Error(`${isOfClient ? "new Fanfare" : `subscribe("${pattern}")`}: ${wrong}`), { code: "invalid_option", ...isOfClient ? { final: true } : { pattern } });
}
