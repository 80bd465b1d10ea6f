// How long to wait before the next attempt.

/** A hidden page has time. */
const HIDDEN_MS = 60_000;

/**
 * Milliseconds until the next attempt: at once, or as long as the broker asks for (`hintMs`), then anything up to a bound
 * that doubles to 15 s, so that those who lost the same broker do not come back together.
 */
export function backoff(attempt, { hintMs, hidden, random = Math.random } = {}) {
  if (attempt === 0) return hintMs ?? 1000 * random();
  const most = Math.min(1000 * 2 ** attempt, 15_000);
  return Math.max(hintMs ?? 0, 500 + random() * (most - 500), hidden ? HIDDEN_MS : 0);
}
