// One connection for all tabs of one identity.
//
// The tab that holds a Web Lock leads: it has the connection (`hub.js`), and the others speak to it over a BroadcastChannel, each
// over one of its own. To the client this is a WebSocket like any other. Where the leading tab closes or crashes, the
// browser gives the lock to the next one; where it hangs, whoever notices takes it. Each client then goes on, from where it stands,
// over a new connection, as a broker's `goaway` makes it do.

import { Hub } from "./hub.js";

/** How often a leader is asked whether it is there, and how long it may take to say so. */
const BEAT_MS = 200, PATIENCE_MS = 550;
/** How long a tab without a connection stays, and one whose leader is gone keeps what it had. */
const LINGER_MS = 1_000;
/** Messages that may be on their way to a tab; it says how many came. */
const WINDOW = 10_000, ACK_EVERY = 500;

/** Identity → this page's part in it. */
const members = new Map();

/** What looks like a WebSocket to the client. */
class SharedSocket {
  onmessage = null;
  onclose = null;
  onerror = null;
  /** Which reign it is connected in. */
  reign = null;
  isWelcome = false;
  isOver = false;

  constructor(member, id) {
    this.member = member;
    this.id = id;
  }

  send(text) {
    if (!this.isOver) this.member.send(this, { text });
  }

  close() {
    if (this.isOver) return;
    this.isOver = true;
    this.member.closed(this);
  }

  deliver(data) {
    if (this.isOver) return;
    this.isWelcome = true;
    this.onmessage?.({ data });
  }

  over(code, reason = "") {
    if (this.isOver) return;
    this.isOver = true;
    this.member.closed(this);
    this.onclose?.({ code, reason });
  }
}

class Member {
  sockets = new Map();
  isOver = false;
  /** It goes by connections of its own. */
  isAlone = false;
  #id = crypto.randomUUID();
  #next = 0;
  /** The present leadership, and what has been heard of it. */
  #reign = null;
  #heardAt = 0;
  #watchedAt = 0;
  #hub = null;
  /** Where this page hears what tabs say to it, while it leads. */
  #reignChannel = null;
  #toLeader = null;
  /** Where tabs hear what it says to them, and how much is on its way to each socket. */
  #tabs = new Map();
  #sent = new Map();
  #stayUntil = 0;
  #isQueued = false;
  #stop = new AbortController();
  #releases = [];
  #timers = {};

  constructor(key, connect, read) {
    Object.assign(this, { key, connect, read });
    this.#common = new BroadcastChannel(key);
    this.#common.onmessage = ({ data }) => this.#overhear(data);
    this.#inbox = new BroadcastChannel(`${key} ${this.#id}`);
    this.#inbox.onmessage = ({ data }) => this.#receive(data);
    const on = (target, name) => target?.addEventListener?.(name, () => this.leave(), { signal: this.#stop.signal });
    on(globalThis, "pagehide");
    on(globalThis.document, "freeze");
    this.#hold(`${key} ${this.#id}`, () => {
      this.#queue();
      this.#common.postMessage({ hello: this.#id });
    });
    this.#heardAt = this.#watchedAt = Date.now();
    this.#timers.watch = setInterval(() => this.#watch(), BEAT_MS);
  }

  #common;
  #inbox;

  /** A lock that is held until this page's part is over. */
  #hold(name, begin, options = { signal: this.#stop.signal }) {
    const held = () => new Promise((release) => { this.#releases.push(release); begin(); });
    return navigator.locks.request(name, options, held).catch((error) => {
      if (this.isOver || error.name === "AbortError") return;
      // The browser lets this page have no locks.
      this.isAlone = true;
      this.leave();
    });
  }

  // ---- Sockets of this page -------------------------------------------------------------------------

  open() {
    clearTimeout(this.#timers.linger);
    const socket = new SharedSocket(this, `${this.#id} ${++this.#next}`);
    this.sockets.set(socket.id, socket);
    this.#attach(socket);
    return socket;
  }

  #attach(socket) {
    if (!this.#reign) return;
    socket.reign = this.#reign;
    if (this.#leads) this.#openHere(socket.id, null);
    else this.#tellLeader({ socket: socket.id, open: true });
  }

  send(socket, said) {
    if (socket.reign !== this.#reign) return;
    if (this.#leads) this.#takeHere({ socket: socket.id, ...said });
    else this.#tellLeader({ socket: socket.id, ...said });
  }

  closed(socket) {
    this.send(socket, { close: true });
    this.sockets.delete(socket.id);
    if (!this.sockets.size) this.#later("linger", LINGER_MS, () => this.leave());
  }

  #later(name, ms, deed) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(deed, ms);
  }

  /** Gives up its part: at once, for a page that goes may be frozen the next moment. */
  leave() {
    if (this.isOver) return;
    this.isOver = true;
    if (members.get(this.key) === this && !this.isAlone) members.delete(this.key);
    clearInterval(this.#timers.watch);
    Object.values(this.#timers).forEach(clearTimeout);
    for (const socket of [...this.sockets.values()]) socket.over(1006);
    this.#hub?.end(1000);
    for (const channel of [this.#common, this.#inbox, this.#reignChannel, this.#toLeader, ...this.#tabs.values()]) channel?.close();
    this.#stop.abort();
    for (const release of this.#releases) release();
  }

  // ---- Who leads --------------------------------------------------------------------------------------

  get #leads() {
    return this.#reignChannel !== null;
  }

  /** Leads once nobody else does. */
  #queue() {
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.#claim();
  }

  #claim(options) {
    let isHad = false;
    const had = () => {
      isHad = true;
      if (!options) this.#isQueued = false;
      this.#lead();
    };
    this.#hold(`${this.key} leader`, had, options).then(() => {
      // Somebody took it, for this page hung.
      if (isHad && !this.isOver) this.#abdicate();
    });
  }

  #lead() {
    const reign = crypto.randomUUID();
    this.#reignChannel?.close();
    this.#reignChannel = new BroadcastChannel(`${this.key} ${reign}`);
    this.#reignChannel.onmessage = ({ data }) => this.#takeHere(data);
    this.#common.postMessage({ leads: reign });
    this.#follow(reign);
    return reign;
  }

  #abdicate() {
    this.#reignChannel.close();
    this.#reignChannel = null;
    this.#reign = null;
    this.#hub?.end(1012);
    this.#queue();
    this.#common.postMessage({ hello: this.#id });
  }

  #overhear({ hello, leads }) {
    if (leads && leads !== this.#reign) {
      // Who hung while another one took its place may still think that it leads.
      if (this.#leads) return;
      this.#follow(leads);
    }
    if (hello && this.#leads) this.#tellTab(hello, { alive: true });
  }

  /** From here on this reign is the one: what was connected in another one goes on in it. */
  #follow(reign) {
    this.#reign = reign;
    this.#heardAt = Date.now();
    this.#toLeader?.close();
    this.#toLeader = this.#leads ? null : new BroadcastChannel(`${this.key} ${reign}`);
    for (const socket of [...this.sockets.values()]) {
      if (!socket.isWelcome) {
        this.#attach(socket);
        continue;
      }
      socket.deliver(JSON.stringify({ op: "goaway", within_ms: 0 }));
      // A client that was not ready yet does not heed it.
      setTimeout(() => {
        socket.deliver(JSON.stringify({ op: "bye", code: "restart", message: "another tab has the connection", retry_after_ms: 0 }));
        socket.over(1012, "restart");
      }, LINGER_MS);
    }
  }

  /** Asks whether the leader is there; who does not answer does not lead. */
  #watch() {
    const now = Date.now(), isLate = now - this.#watchedAt > 3 * BEAT_MS;
    this.#watchedAt = now;
    if (this.#leads || !this.sockets.size) this.#heardAt = now;
    // Who was away itself gives others their time.
    else if (isLate) this.#heardAt = now;
    else if (now - this.#heardAt > PATIENCE_MS) {
      this.#heardAt = now;
      this.#claim({ steal: true });
    } else if (this.#reign) this.#tellLeader({ beat: true });
    else this.#common.postMessage({ hello: this.#id });
  }

  // ---- Between tabs -----------------------------------------------------------------------------------

  #tellLeader(said) {
    if (!this.isOver) this.#toLeader?.postMessage({ from: this.#id, ...said });
  }

  #tellTab(id, said) {
    // Who leaves says nothing: the next one does.
    if (this.isOver) return;
    let channel = this.#tabs.get(id);
    if (!channel) this.#tabs.set(id, channel = new BroadcastChannel(`${this.key} ${id}`));
    channel.postMessage({ reign: this.#reign, ...said });
  }

  /** What a leader says to this tab. */
  #receive({ reign, socket: id, messages, over, alone }) {
    if (this.#leads) return;
    // A leader that hung may say something yet of a reign that is over.
    if (!this.#reign) this.#follow(reign);
    if (reign !== this.#reign) return;
    this.#heardAt = Date.now();
    const socket = this.sockets.get(id);
    if (!socket || socket.reign !== reign) return;
    if (alone) this.#goAlone(socket);
    for (const message of messages ?? []) socket.deliver(message);
    socket.came = (socket.came ?? 0) + (messages?.length ?? 0);
    if (socket.came >= ACK_EVERY) {
      this.send(socket, { came: socket.came });
      socket.came = 0;
    }
    if (over) socket.over(...over);
  }

  #goAlone(socket) {
    this.isAlone = true;
    socket.over(1013);
  }

  /** What tabs say to this leader. */
  #takeHere({ from, socket: id, open, text, close, came, beat }) {
    if (beat) this.#tellTab(from, { alive: true });
    else if (open) this.#openHere(id, from);
    else if (text !== undefined) this.#hub?.take(id, text);
    else if (close) {
      this.#sent.delete(id);
      this.#hub?.close(id);
    } else if (came && this.#sent.has(id)) this.#sent.set(id, this.#sent.get(id) - came);
  }

  #openHere(id, from) {
    this.#hub ??= this.#connect();
    const hub = this.#hub;
    if (!from) {
      const socket = this.sockets.get(id);
      const soon = (deed) => Promise.resolve().then(deed);
      hub.open(id, {
        send: (message) => soon(() => socket.deliver(message)),
        over: (code, reason) => soon(() => socket.reign === this.#reign && socket.over(code, reason)),
        alone: () => this.#goAlone(socket),
      });
      return;
    }
    this.#sent.set(id, 0);
    let waiting = null;
    const flush = () => {
      const messages = waiting;
      waiting = null;
      if (messages && !this.isOver) this.#tellTab(from, { socket: id, messages });
    };
    hub.open(id, {
      send: (message) => {
        const sent = this.#sent.get(id) + 1;
        this.#sent.set(id, sent);
        if (sent > WINDOW) {
          hub.close(id);
          return this.#tellTab(from, { socket: id, over: [4409, "slow_consumer"] });
        }
        if (!waiting) {
          waiting = [];
          Promise.resolve().then(flush);
        }
        waiting.push(message);
      },
      over: (code, reason) => {
        flush();
        this.#tellTab(from, { socket: id, over: [code, reason] });
      },
      alone: () => {
        hub.close(id);
        this.#tellTab(from, { socket: id, alone: true });
      },
    });
    // Its lock is free once it is gone, however it went.
    navigator.locks.request(`${this.key} ${from}`, { signal: this.#stop.signal }, () => {
      hub.close(id);
      this.#sent.delete(id);
      this.#tabs.get(from)?.close();
      this.#tabs.delete(from);
    }).catch(() => {});
  }

  #connect() {
    const hub = new Hub(this.connect(), {
      read: this.read,
      // What a takeover does, it does too: a new connection, and all tabs go over to it.
      goaway: ({ within_ms: withinMs }) => {
        if (Date.now() < this.#stayUntil) return;
        this.#stayUntil = Date.now() + withinMs;
        this.#hub = null;
        this.#lead();
        setTimeout(() => hub.end(1012), LINGER_MS);
      },
      over: () => { if (this.#hub === hub) this.#hub = null; },
    });
    return hub;
  }
}

/**
 * The options of a client that shares its connection with all tabs that name the same identity, at the same broker; where the
 * browser can't, they are what was given.
 */
function shared(name, options = {}) {
  const { WebSocket = globalThis.WebSocket, read = JSON.parse } = options;
  if (!globalThis.navigator?.locks || !globalThis.BroadcastChannel || !WebSocket) return options;
  const Socket = class {
    constructor(url) {
      const key = `fanfare ${JSON.stringify([url, name])}`;
      let member = members.get(key);
      if (member?.isAlone) return new WebSocket(url);
      if (!member) members.set(key, member = new Member(key, () => new WebSocket(url), read));
      return member.open();
    }
  };
  return { ...options, WebSocket: Socket, read: (message) => message.op ? message : read(message) };
}

export { shared };
