// A market: 1,000 symbols whose prices wander. The first in the alphabet are traded most.

import { setTimeout as sleep } from "node:timers/promises";
import { Fanfare } from "../../clients/js/fanfare.js";

const { FANFARE_URL, FANFARE_API_KEY, TICKS_PER_SECOND = "500" } = process.env;
const STEP_MS = 50;
const perStep = Number(TICKS_PER_SECOND) * STEP_MS / 1000;

const fanfare = new Fanfare(FANFARE_URL, { token: FANFARE_API_KEY, queue: true });

/** BAB, BAD, … ZUT: 1,000 of consonant, vowel, consonant. */
function symbols() {
  const consonants = [..."BCDFGKLMNPRSTVZ"], all = [];
  for (const first of consonants) for (const vowel of "AEIOU") for (const last of consonants.slice(0, 14)) all.push(first + vowel + last);
  return all.slice(0, 1000);
}

const market = symbols().map((symbol) => {
  const open = Math.round(10 ** (1 + 1.7 * Math.random()) * 100) / 100;
  return { symbol, quote: { price: open, open, low: open, high: open } };
});

/** The next price of a symbol, published. */
function tick({ symbol, quote }) {
  const price = Math.max(1, Math.round(quote.price * (1 + (Math.random() - 0.5) / 150) * 100) / 100);
  Object.assign(quote, { price, low: Math.min(quote.low, price), high: Math.max(quote.high, price) });
  // Without a key, for one that is lost with its connection is made good by the next.
  return fanfare.publish(`ticks.${symbol}`, quote, { key: null }).catch(({ code, message }) => {
    if (code !== "outcome_unknown") console.error(`ticks.${symbol}: ${code}: ${message}`);
  });
}

// Each a first time, so that all are there; never more at once than fit into what the client lets wait.
await Promise.all(market.map(tick));
for (let due = Date.now(); ; due = Math.max(due + STEP_MS, Date.now())) {
  const ticks = Array.from({ length: perStep }, () => tick(market[Math.floor(market.length * Math.random() ** 3)]));
  await Promise.all(ticks);
  await sleep(Math.max(0, due + STEP_MS - Date.now()));
}
