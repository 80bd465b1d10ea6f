// Requests to the broker that served this page, also where a proxy has it under a prefix.

/** Ends with `/`. */
export const BROKER = new URL(".", document.baseURI).href;

const PATIENCE_MS = 15_000;

/** What the broker refuses, or that nothing answers (`status` 0). */
export class Refusal extends Error {
  constructor(status, code, detail) {
    super(status ? `${status} ${code}${detail ? `: ${detail}` : ""}` : detail);
    Object.assign(this, { status, code, detail });
  }
}

/** Asks with a credential, if there is one; what is answered is read by `read`. */
export async function ask(path, { token, read = JSON.parse, signal, headers, ...options } = {}) {
  const late = AbortSignal.timeout(PATIENCE_MS);
  let response, text;
  try {
    response = await fetch(new URL(path, BROKER), {
      credentials: "same-origin", cache: "no-store", ...options,
      headers: { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) },
      signal: signal ? AbortSignal.any([late, signal]) : late,
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, "unreachable", late.aborted ? `nothing was answered within ${PATIENCE_MS / 1000} s` : "the broker can't be reached");
  }
  if (response.ok) return text ? read(text) : null;
  let problem = {};
  try { problem = JSON.parse(text); } catch { /* not the broker's */ }
  throw new Refusal(response.status, problem.code ?? response.statusText, problem.detail ?? "");
}
