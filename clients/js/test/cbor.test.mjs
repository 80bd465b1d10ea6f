// The wire in CBOR: its decoder, and that a client over it is the client that it is over JSON.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CborError, cbor, decode, encode } from "../fanfare/cbor.js";
import { client, eventually, publish, runPrinted, startBroker, startProxy } from "./harness.mjs";
import { dice } from "./model.mjs";

const options = { timeout: 60_000 };
const bytes = (hex) => Uint8Array.from(hex.replaceAll(" ", "").match(/../g) ?? [], (pair) => parseInt(pair, 16));
const upTo = (n) => Array.from({ length: n }, (_, at) => at + 1);

/** RFC 8949, appendix A, and what JavaScript makes of it. */
const EXAMPLES = [
  ["00", 0], ["01", 1], ["0a", 10], ["17", 23], ["1818", 24], ["1819", 25], ["1864", 100], ["1903e8", 1000], ["1a000f4240", 1000000],
  ["1b000000e8d4a51000", 1000000000000], ["1bffffffffffffffff", 18446744073709551615n], ["c249010000000000000000", 18446744073709551616n],
  ["3bffffffffffffffff", -18446744073709551616n], ["c349010000000000000000", -18446744073709551617n],
  ["20", -1], ["29", -10], ["3863", -100], ["3903e7", -1000],
  ["f90000", 0], ["f98000", -0], ["f93c00", 1], ["fb3ff199999999999a", 1.1], ["f93e00", 1.5], ["f97bff", 65504], ["fa47c35000", 100000],
  ["fa7f7fffff", 3.4028234663852886e+38], ["fb7e37e43c8800759c", 1e300], ["f90001", 5.960464477539063e-8], ["f90400", 0.00006103515625],
  ["f9c400", -4], ["fbc010666666666666", -4.1], ["f97c00", Infinity], ["f97e00", NaN], ["f9fc00", -Infinity],
  ["fa7f800000", Infinity], ["fa7fc00000", NaN], ["faff800000", -Infinity], ["fb7ff0000000000000", Infinity], ["fb7ff8000000000000", NaN], ["fbfff0000000000000", -Infinity],
  ["f4", false], ["f5", true], ["f6", null], ["f7", undefined],
  ["c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"], ["c11a514b67b0", 1363896240], ["c1fb41d452d9ec200000", 1363896240.5],
  ["d74401020304", bytes("01020304")], ["d818456449455446", bytes("6449455446")], ["d82076687474703a2f2f7777772e6578616d706c652e636f6d", "http://www.example.com"],
  ["40", bytes("")], ["4401020304", bytes("01020304")], ["60", ""], ["6161", "a"], ["6449455446", "IETF"], ["62225c", '"\\'], ["62c3bc", "ü"], ["63e6b0b4", "水"], ["64f0908591", "𐅑"],
  ["80", []], ["83010203", [1, 2, 3]], ["8301820203820405", [1, [2, 3], [4, 5]]], ["98190102030405060708090a0b0c0d0e0f101112131415161718181819", upTo(25)],
  ["a0", {}], ["a26161016162820203", { a: 1, b: [2, 3] }], ["826161a161626163", ["a", { b: "c" }]], ["a56161614161626142616361436164614461656145", { a: "A", b: "B", c: "C", d: "D", e: "E" }],
  ["5f42010243030405ff", bytes("0102030405")], ["7f657374726561646d696e67ff", "streaming"], ["9fff", []], ["9f018202039f0405ffff", [1, [2, 3], [4, 5]]], ["9f01820203820405ff", [1, [2, 3], [4, 5]]],
  ["83018202039f0405ff", [1, [2, 3], [4, 5]]], ["83019f0203ff820405", [1, [2, 3], [4, 5]]], ["9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff", upTo(25)],
  ["bf61610161629f0203ffff", { a: 1, b: [2, 3] }], ["826161bf61626163ff", ["a", { b: "c" }]], ["bf6346756ef563416d7421ff", { Fun: true, Amt: -2 }],
];
/** Those of it that are well-formed, and nothing that JSON and JavaScript have. */
const FOREIGN = ["f0", "f818", "f8ff", "a201020304"];

test("R26 the examples of RFC 8949 are read", () => {
  for (const [hex, value] of EXAMPLES) assert.deepEqual(decode(bytes(hex)), value, hex);
  for (const hex of FOREIGN) assert.throws(() => decode(bytes(hex)), CborError, hex);
});

test("R26 what is malformed is refused in words, and nothing is reserved for what is not there", () => {
  const refused = (hex, message, bounds) => assert.throws(() => decode(bytes(hex), bounds), { name: "CborError", code: "bad_cbor", message }, hex);
  for (const hex of ["", "18", "1bff", "61", "82 01", "a1 6161", "9f 01", "7f 6161", "5bffffffffffffffff", "9bffffffffffffffff", "9affffffff 01", "bb7fffffffffffffff"]) refused(hex, /the end is missing at byte \d+/);
  for (const hex of ["1c", "1f", "3f", "df 00", "fc", "5e"]) refused(hex, /means nothing/);
  for (const hex of ["ff", "81 ff", "a1 6161 ff", "f813"]) refused(hex, /a break out of place/);
  for (const hex of ["bf 01 02 ff", "a1 40 01", "a1 c0 6161 01"]) refused(hex, /a name that is not text/);
  for (const hex of ["5f 6161 ff", "7f 4161 ff", "7f 7f 6161 ff ff"]) refused(hex, /not of its string/);
  for (const hex of ["c2 6161", "c3 01", "c4 01", "c4 83 010203", "c4 82 01 80", `c2 59 0401 ${"01".repeat(1025)}`]) refused(hex, /misshapen or too long/);
  for (const hex of ["61ff", "7f 61c3 61bc ff"]) refused(hex, /not UTF-8/);
  refused("0000", /more than one item/);
  refused("0000", /more than 1 bytes/, { bytes: 1 });
  refused("81".repeat(257) + "00", /nested too deep/);
  refused("c1".repeat(100_000) + "00", /nested too deep/);
  refused("81 81 00", /nested too deep/, { depth: 1 });
  assert.deepEqual(decode(bytes("81 00"), { depth: 1 }), [0]);
  const odd = decode(bytes("a1 69 5f5f70726f746f5f5f a0"));
  assert.deepEqual(Object.keys(odd), ["__proto__"]);
  assert.equal(Object.getPrototypeOf(odd), Object.prototype);
});

test("R26 whatever the bytes are, reading them ends, and fails in its own way alone", () => {
  for (let seed = 0; seed < 40_000; seed++) {
    const { below, one, may } = dice(seed);
    const [example] = one(EXAMPLES);
    // Bytes at random seldom get far: half of the time they are an example with a wound.
    const item = may(0.5) ? Uint8Array.from({ length: below(64) }, () => below(256)) : bytes(example);
    if (item.length) for (let n = below(3); n > 0; n--) item[below(item.length)] = below(256);
    try { decode(item); } catch (error) {
      if (!(error instanceof CborError)) assert.fail(`seed ${seed}: ${error.stack}`);
    }
  }
});

test("R26 what is said as JSON is said the same in CBOR", () => {
  const texts = ["0", "-1", "23", "24", "255", "256", "65535", "65536", "4294967295", "4294967296", "-0", "1.5", "-2e-7", "1e300", "[]", "{}", "null", "[true,false,null]", '"a\\"\\u00fc\\n"', '{"a":[1,{"b":"}"}],"":{}}', "9007199254740991", '{"data":"AAA=","encoding":"base16"}'];
  for (const text of texts) assert.deepEqual(decode(encode(text)), JSON.parse(text), text);
  for (const text of ["9007199254740993", "-9007199254740993", "18446744073709551615", "18446744073709551616", "-18446744073709551617", `1${"0".repeat(300)}`]) assert.equal(decode(encode(text)), BigInt(text), text);
  assert.deepEqual(decode(encode('{"op":"publish","data":"AP8H","encoding":"base64"}')), { op: "publish", data: bytes("00ff07") });
  assert.deepEqual(decode(encode('{"op":"publish","data":{"data":"AP8H","encoding":"base64"}}')), { op: "publish", data: { data: "AP8H", encoding: "base64" } });
});

test("R26 `raw` and `parse` are refused, for there is no JSON text", () => {
  for (const given of [{ raw: true }, { parse: JSON.parse }]) assert.throws(() => cbor(given), /of JSON alone/);
});

for (const [wire, speaking] of [["JSON", (given) => given], ["CBOR", cbor]]) {
  test(`R26 contract over ${wire}: values, resuming over cuts and a kill -9, publishing with a key, refusals`, options, async (t) => {
    const broker = await startBroker(t);
    const proxy = await startProxy(t, broker.port);
    const { fanfare, is, gaps } = client(t, proxy.url, speaking({ queue: true }));
    const got = [], tile = [];
    await publish(broker, "numbers", { n: -1, text: "ü", list: [1.5, null, true] });
    fanfare.subscribe("numbers", { tail: 100 }, ({ data, own }) => got.push([data, own]));
    fanfare.subscribe("*", { snapshot: true, latest: true }, ({ data }) => tile.push(data));
    await is("live");
    for (let n = 0; n < 60; n++) {
      if (n === 5) proxy.drop();
      if (n === 30) await broker.restart();
      if (n % 2) await fanfare.publish("numbers", { n });
      else await publish(broker, "numbers", { n });
    }
    await eventually(() => got.length >= 61 && tile.at(-1)?.n === 59);
    assert.deepEqual(got.map(([data]) => data), [{ n: -1, text: "ü", list: [1.5, null, true] }, ...upTo(60).map((n) => ({ n: n - 1 }))]);
    assert.deepEqual(got.map(([, own]) => own), got.map(([{ n }]) => n > 0 && n % 2 === 1));
    assert.deepEqual(gaps, []);
    const { id } = await fanfare.publish("keyed", 1, { key: "mine" });
    assert.deepEqual(await fanfare.publish("keyed", 1, { key: "mine" }), { id, repeated: true });
    await assert.rejects(fanfare.publish("keyed", 2, { key: "mine" }), { code: "idempotency_mismatch" });
    await assert.rejects(fanfare.publish("no topic", 1), { code: "invalid_topic" });
    await assert.rejects(fanfare.publish("keyed", 3, { if_latest: "absent" }), ({ code, event }) => code === "not_latest" && event.data === 1);
  });
}

for (const [way, more] of [["over a WebSocket", {}], ["over event streams", { WebSocket: null }]]) {
  test(`R26 binary data is bytes, and integers are whole, ${way}`, options, async (t) => {
    const broker = await startBroker(t);
    const { fanfare } = client(t, broker.url, cbor(more));
    const got = [];
    fanfare.subscribe("a", ({ data, encoding }) => got.push(encoding ?? data));
    await fanfare.ready();
    const large = Uint8Array.from({ length: 40_000 }, (_, n) => n % 251);
    await fanfare.publish("a", large);
    await fanfare.publish("a", bytes("00ff07").buffer);
    await fanfare.publish("a", new Uint16Array([1, 2]).subarray(1));
    await fanfare.publish("a", { n: 12345678901234567890n, m: [-(2n ** 70n)], small: 5n, text: "12345678901234567890" });
    await eventually(() => got.length === 4);
    assert.ok(got[0] instanceof Uint8Array);
    assert.deepEqual(got.slice(0, 3), [large, bytes("00ff07"), bytes("0200")]);
    // Event streams are JSON, whose whole numbers engines before Node 21 have read already when one is asked.
    const isLossless = !("WebSocket" in more) || JSON.parse("1", (_, value, context) => Boolean(context));
    if (isLossless) assert.deepEqual(got[3], { n: 12345678901234567890n, m: [-(2n ** 70n)], small: 5, text: "12345678901234567890" });
    else assert.deepEqual(got[3].small, 5);
    const stored = await (await fetch(`${broker.url}/v1/topics/a/events?limit=1000`)).json();
    assert.equal(stored.events[1].encoding, "base64");
    assert.equal(stored.events[1].data, "AP8H");
    const circle = {};
    circle.circle = circle;
    await assert.rejects(fanfare.publish("a", circle), TypeError);
  });
}

test("R26 both directions are binary", options, async (t) => {
  const broker = await startBroker(t);
  const kinds = new Set();
  class Watched extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => kinds.add(data.constructor.name));
    }
    send(message) {
      kinds.add(message.constructor.name);
      super.send(message);
    }
  }
  const { fanfare } = client(t, broker.url, cbor({ WebSocket: Watched }));
  await fanfare.publish("a", 1);
  assert.deepEqual(kinds, new Set(["ArrayBuffer", "Uint8Array"]));
});

test("R26 what the README prints of CBOR works as printed", options, async (t) => {
  const broker = await startBroker(t);
  const { stdout } = await runPrinted(t, "fanfare/cbor", { until: /./, url: broker.url });
  assert.equal(stdout.trim(), "Uint8Array(3) [ 0, 255, 7 ]");
});
