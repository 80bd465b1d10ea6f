// Time that passes when a test says so. It takes the place of the timers and the clock of the runtime, and needs no framework.

const NAMES = ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "requestAnimationFrame", "cancelAnimationFrame", "Date"];
const FRAME_MS = 16;

/** Another turn of the runtime's own loop, whatever became of its timers. */
export function turn() {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); done(); };
    port2.postMessage(null);
  });
}

/** Lets what is ready run, and what that makes ready. */
export async function turns(count = 16) {
  for (let n = 0; n < count; n++) await turn();
}

export class FakeTime {
  #timers = new Map();
  #next = 1;
  #before = {};
  #running = false;

  constructor(now = Date.now()) {
    this.now = now;
    const time = this;
    const RealDate = Date;
    const cancel = (timer) => { this.#timers.delete(Number(timer)); };
    const own = {
      setTimeout: (deed, ms, ...given) => this.#set(deed, ms, given),
      setInterval: (deed, ms, ...given) => this.#set(deed, ms, given, true),
      clearTimeout: cancel,
      clearInterval: cancel,
      requestAnimationFrame: (deed) => Number(this.#set(() => deed(this.now), FRAME_MS, [])),
      cancelAnimationFrame: cancel,
      Date: class Date extends RealDate {
        constructor(...given) { super(...given.length ? given : [time.now]); }
        static now() { return time.now; }
      },
    };
    for (const name of NAMES) {
      if (!(name in globalThis)) continue;
      this.#before[name] = globalThis[name];
      globalThis[name] = own[name];
    }
  }

  /** Gives the runtime its own time back. */
  restore() {
    Object.assign(globalThis, this.#before);
    this.#before = {};
    this.#timers.clear();
  }

  #set(deed, ms, given, isEvery = false) {
    const wait = Math.max(0, Number(ms) || 0);
    const id = this.#next++;
    this.#timers.set(id, { id, at: this.now + wait, every: isEvery ? Math.max(1, wait) : 0, run: () => deed(...given) });
    // What is due at once needs nobody to say so.
    if (wait <= 1 && !isEvery) turn().then(() => this.#running || this.#runDue(this.now + wait));
    return { unref() { return this; }, ref() { return this; }, hasRef: () => false, refresh() { return this; }, [Symbol.toPrimitive]: () => id };
  }

  #due(end) {
    let first = null;
    for (const timer of this.#timers.values()) if (timer.at <= end && (!first || timer.at < first.at)) first = timer;
    return first;
  }

  #run(timer) {
    if (timer.every) timer.at = Math.max(timer.at + timer.every, this.now + 1);
    else this.#timers.delete(timer.id);
    timer.run();
  }

  #runDue(end) {
    const timer = this.#due(end);
    if (!timer) return;
    this.now = Math.max(this.now, timer.at);
    this.#run(timer);
  }

  /** Lets so many milliseconds pass: each timer runs in its turn, and what it sets going comes to its end before the next. */
  async advance(ms) {
    const end = this.now + ms;
    await turns();
    this.#running = true;
    try {
      for (let timer; (timer = this.#due(end));) {
        this.now = Math.max(this.now, timer.at);
        this.#run(timer);
        await turns(4);
      }
      this.now = Math.max(this.now, end);
    } finally {
      this.#running = false;
    }
  }

  /** So much time is gone, as when a machine slept: what was due meanwhile runs now, each timer once. */
  async leap(ms) {
    this.now += ms;
    await this.advance(0);
  }
}
