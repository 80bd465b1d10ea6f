// CBOR (RFC 8949) in place of JSON: binary data as bytes, and integers of any size.
//
// `cbor(options)` makes of a client's options those of one that speaks it. What the broker says is decoded; what the client
// says is JSON text up to the socket, and is turned into CBOR token by token there, so that no number passes through
// a float. Where only event streams come through, which are JSON, data looks the same: bytes are base64 on the way.

const PROTOCOL = "fanfare.v1+cbor";

/** What a message may be at most, and a bignum in it, in bytes; how deep it may be nested. */
const MOST_BYTES = 2 ** 26, MOST_BIGNUM = 1024, MOST_DEPTH = 256;

const toText = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const toBytes = new TextEncoder();

/** Why bytes are no message. */
class CborError extends Error {
  name = "CborError";
  code = "bad_cbor";
}

/** An integer as a number where that is exact. */
const integer = (big) => {
  const near = Number(big);
  return Number.isSafeInteger(near) ? near : big;
};

/** What the bytes of one item are, or a `CborError`. */
function decode(bytes, { bytes: most = MOST_BYTES, depth: deepest = MOST_DEPTH } = {}) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const fail = (what) => { throw new CborError(`${what} at byte ${at}`); };

  const take = (length) => {
    if (length > bytes.length - at) fail("the end is missing");
    at += length;
    return at - length;
  };

  /** `[major, argument, info]`; without an argument where the length is not said. */
  const readHead = () => {
    const first = bytes[take(1)];
    const major = first >> 5, info = first & 31;
    if (info < 24) return [major, info, info];
    if (info === 31 && ![0, 1, 6].includes(major)) return [major, undefined, info];
    if (info > 27) fail("a head that means nothing");
    const bits = 2 ** (info - 21);
    const argument = view[`get${bits > 32 ? "Big" : ""}Uint${bits}`](take(bits / 8));
    return [major, integer(argument), info];
  };

  const list = (length, next) => {
    const items = [];
    // Each item has a byte at least: what says it has more of them than are there reserves nothing.
    if (length > bytes.length - at) fail("the end is missing");
    while (length === undefined ? bytes[at] !== 0xff : items.length < length) items.push(next());
    if (length === undefined) at += 1;
    return items;
  };

  const readString = (major, length) => {
    if (length !== undefined) {
      const start = take(length);
      if (major === 2) return bytes.slice(start, at);
      try { return toText.decode(bytes.subarray(start, at)); } catch { fail("text that is not UTF-8"); }
    }
    const parts = list(undefined, () => {
      const [own, size] = readHead();
      return own === major && size !== undefined ? readString(major, size) : fail("a part that is not of its string");
    });
    return major === 2 ? joined(parts) : parts.join("");
  };

  /** Most tags say nothing to JavaScript, and what they stand on is itself. */
  const tagged = (tag, content) => {
    let value = content;
    if (tag === 2 || tag === 3) {
      if (!(content instanceof Uint8Array) || content.length > MOST_BIGNUM) fail("a number that is misshapen or too long");
      const big = BigInt(`0x0${Array.from(content, (byte) => byte.toString(16).padStart(2, "0")).join("")}`);
      value = integer(tag === 2 ? big : -1n - big);
    } else if (tag === 4) {
      value = Array.isArray(content) && content.length === 2 ? Number(`${content[1]}e${content[0]}`) : NaN;
      if (Number.isNaN(value)) fail("a number that is misshapen or too long");
    }
    return value;
  };

  const half = (bits) => {
    const exponent = bits >> 10 & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
  };

  const simple = (value, info) => {
    if (info === 25) return half(value);
    if (info === 26) return view.getFloat32(at - 4);
    if (info === 27) return view.getFloat64(at - 8);
    if (info > 23 || value < 20) fail("a simple value or a break out of place");
    return [false, true, null, undefined][value - 20];
  };

  const item = (depth) => {
    if (depth < 0) fail("nested too deep");
    const [major, argument, info] = readHead();
    switch (major) {
      case 0: return argument;
      case 1: return integer(-1n - BigInt(argument));
      case 2:
      case 3: return readString(major, argument);
      case 4: return list(argument, () => item(depth - 1));
      // Whatever a name is, `__proto__` too, it is the map's own.
      case 5: return Object.fromEntries(list(argument, () => [bytes[at] >> 5 === 3 ? item(0) : fail("a name that is not text"), item(depth - 1)]));
      case 6: return tagged(argument, item(depth - 1));
      default: return simple(argument, info);
    }
  };

  if (bytes.length > most) fail(`more than ${most} bytes`);
  const value = item(deepest);
  if (at < bytes.length) fail("more than one item");
  return value;
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A head in the fewest bytes. */
function head(major, argument) {
  const size = [24, 2 ** 8, 2 ** 16, 2 ** 32].findIndex((end) => argument < end);
  const bytes = new Uint8Array(8), length = 2 ** (size < 0 ? 3 : size - 1) | 0;
  new DataView(bytes.buffer).setBigUint64(0, BigInt(argument));
  return Uint8Array.of(major << 5 | (length ? 24 + Math.log2(length) : Number(argument)), ...bytes.subarray(8 - length));
}

const string = (major, bytes) => [head(major, bytes.length), bytes];

/** A number as JSON writes it. */
function number(token) {
  if (!/^-?\d+$/.test(token) || token === "-0") {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, token);
    return [Uint8Array.of(0xfb), bytes];
  }
  const big = BigInt(token), isNegative = big < 0n, argument = isNegative ? -1n - big : big;
  if (argument < 2n ** 64n) return [head(isNegative ? 1 : 0, argument)];
  const digits = argument.toString(16), even = digits.padStart(digits.length + digits.length % 2, "0");
  return [head(6, isNegative ? 3 : 2), ...string(2, Uint8Array.from(even.match(/../g), (pair) => parseInt(pair, 16)))];
}

const BRACKETS = { "[": 0x9f, "{": 0xbf, "]": 0xff, "}": 0xff, t: 0xf5, f: 0xf4, n: 0xf6 };

/** A JSON text as CBOR. Arrays and maps have no length and end with a break, so that none is counted. */
function encode(json) {
  const [, text = json, base64] = json.endsWith('"encoding":"base64"}') && /^([^]*),"data":"([^"]*)","encoding":"base64"}$/.exec(json) || [];
  const parts = [];
  for (const [token] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[-+.\deE]*|[[\]{}]|[tfn][a-z]+/g)) {
    if (token[0] === '"') parts.push(...string(3, toBytes.encode(JSON.parse(token))));
    else if (token[0] in BRACKETS) parts.push(Uint8Array.of(BRACKETS[token[0]]));
    else parts.push(...number(token));
  }
  if (base64 !== undefined) parts.push(...string(3, toBytes.encode("data")), ...string(2, bytesOf(base64)), Uint8Array.of(0xff));
  return joined(parts);
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));

function base64Of(bytes) {
  const pieces = [];
  for (let at = 0; at < bytes.length; at += 3000) pieces.push(btoa(String.fromCharCode(...bytes.subarray(at, at + 3000))));
  return pieces.join("");
}

/** Data as JSON text; bytes as a publish has them there, with what says so. */
function write(data) {
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return `"${base64Of(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))}","encoding":"base64"`;
  try {
    return JSON.stringify(data);
  } catch {
    // Of what JSON has no word for, integers can be written all the same.
    const mark = crypto.randomUUID();
    const text = JSON.stringify(data, (_, value) => typeof value === "bigint" ? mark + value : value);
    return text.replaceAll(new RegExp(`"${mark}(-?\\d+)"`, "g"), "$1");
  }
}

/** A frame, of CBOR or, from an event stream, of JSON. */
function read(message) {
  if (typeof message !== "string") return decode(new Uint8Array(message));
  const frame = JSON.parse(message, (_, value, { source } = {}) => /^-?\d{16,}$/.test(source) ? integer(BigInt(source)) : value);
  for (const event of [frame, frame.event]) {
    if (event?.encoding !== "base64") continue;
    event.data = bytesOf(event.data);
    delete event.encoding;
  }
  return frame;
}

/** The options of a client that speaks CBOR, and is else as `options` say. */
function cbor(options = {}) {
  if (options.raw || options.parse) throw new TypeError("CBOR has no JSON text: `raw` and `parse` are of JSON alone");
  const { WebSocket = globalThis.WebSocket } = options;
  const Socket = WebSocket && class extends WebSocket {
    constructor(url) {
      super(url, PROTOCOL);
      this.binaryType = "arraybuffer";
    }

    // Whoever did not agree to it gets what everybody speaks.
    send(text) {
      super.send(this.protocol === PROTOCOL ? encode(text) : text);
    }
  };
  return { ...options, WebSocket: Socket, read, write };
}

export { cbor, decode, encode, CborError };
