// Where credentials come from: a text, or a function that gives a fresh one.

export class Tokens {
  #source;
  #running = null;
  /** Who was somebody is never nobody: without its token, it does not connect. */
  #had = false;

  constructor(source) {
    this.#source = source;
  }

  /** A token, or nothing for who has no credential. One question at a time, however many ask. */
  get() {
    this.#running ??= this.#ask().finally(() => { this.#running = null; });
    return this.#running;
  }

  async #ask() {
    try {
      const token = typeof this.#source === "function" ? await this.#source() : this.#source;
      if (!token && this.#had) throw new Error("it gave none, where it gave one before");
      this.#had ||= Boolean(token);
      return token || undefined;
    } catch (error) {
      throw Object.assign(new Error(`token() failed: ${error?.message ?? error}`, { cause: error }), { code: "token" });
    }
  }
}
