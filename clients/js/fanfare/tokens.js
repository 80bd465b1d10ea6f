// Where credentials come from: a text, or a function that gives a fresh one.
//
// The broker warns before a token ends. Where that does not come, or the clock has jumped meanwhile, the life of a JWT says when
// to renew; of other credentials nobody but the broker knows.

/** How long `token()` may take; when it is asked again once it failed. */
const PATIENCE_MS = 30_000, AGAIN_MS = 5_000;
/** The broker warns so long before the end, or at half of a shorter life. */
const WARNED_MS = 60_000;
/** Timers know no later moment. */
const LATEST_MS = 2 ** 31 - 1;

/** Milliseconds that a JWT is good for, by what it says of itself; NaN for other credentials. */
function lifeOf(token) {
  try {
    const { exp, iat } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return Math.max(0, exp * 1000 - (iat * 1000 || Date.now()));
  } catch {
    return NaN;
  }
}

function after(ms, deed) {
  const timer = setTimeout(deed, ms);
  timer.unref?.();
  return timer;
}

export class Tokens {
  #source;
  #show;
  #tell;
  #running = null;
  /** Who was somebody is never nobody: without its token, it does not connect. */
  #had = false;
  #gotAt;
  #life;
  #timer;

  /** `show()` asks for another token and shows it to the broker, where there is a connection; `tell(error)` is told that it failed. */
  constructor(source, show, tell) {
    if (source && !/string|function/.test(typeof source)) {
      throw Object.assign(new Error(`new Fanfare: token is to be a text or a function, not ${typeof source}`), { code: "invalid_option", final: true });
    }
    this.#source = source;
    this.#show = show;
    this.#tell = tell;
    /** What may be done about a token that is over. */
    this.hint = typeof source === "function" ? "" : "; `token` is a text, and a function could give the next one";
  }

  /** A token, or nothing for who has no credential. One question at a time, however many ask. */
  get() {
    this.#running ??= this.#ask().finally(() => { this.#running = null; });
    return this.#running;
  }

  /** Renews in place, and again and again where that fails. */
  async renew() {
    clearTimeout(this.#timer);
    // A text has no other one: when it is over, `hint` says so.
    if (this.hint) return;
    try {
      await this.#show();
    } catch (error) {
      // The connection that it was to be shown to is over, and the next one asks for itself.
      if ("final" in error) return;
      this.#tell(error);
      this.#timer = after(AGAIN_MS, () => this.renew());
    }
  }

  /** The clock may have jumped: what is past half of its life by it is renewed. */
  check() {
    if (this.#life && Date.now() - this.#gotAt > this.#life / 2) this.renew();
  }

  end() {
    clearTimeout(this.#timer);
  }

  async #ask() {
    clearTimeout(this.#timer);
    let patience;
    try {
      const late = new Promise((_, reject) => { patience = after(PATIENCE_MS, () => reject(new Error(`no answer within ${PATIENCE_MS / 1000} s`))); });
      const token = typeof this.#source === "function" ? await Promise.race([this.#source(), late]) : this.#source;
      if (token && typeof token !== "string") throw new TypeError(`it gave no text, but ${typeof token}`);
      if (!token && this.#had) throw new Error("it gave none, where it gave one before");
      this.#had ||= Boolean(token);
      this.#keep(token);
      return token || undefined;
    } catch (error) {
      throw Object.assign(new Error(`token() failed: ${error?.message ?? error}`, { cause: error }), { code: "token" });
    } finally {
      clearTimeout(patience);
    }
  }

  /** Of a token that is good for a while: renews it between the broker's warning and its end, should there be none. */
  #keep(token) {
    this.#gotAt = Date.now();
    this.#life = lifeOf(token);
    const ms = this.#life - Math.min(WARNED_MS, this.#life / 2) / 2;
    // Of what has ended already the broker says so.
    if (ms > 0 && typeof this.#source === "function") this.#timer = after(Math.min(ms, LATEST_MS), () => this.renew());
  }
}
