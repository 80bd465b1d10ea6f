// The board: pointers and keys in, cursors and ripples out. Places are parts of its width and height, so that they fit every screen.

const EASE_MS = 45, STEP = 0.02;
const STEPS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const STATES = { live: "", connecting: "Connecting…", waiting: "Offline, trying again", refused: "The broker refuses this page" };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const within = (part) => Math.round(Math.min(1, Math.max(0, part)) * 1e4) / 1e4;

/** Topics take any JSON: what is no place is not drawn. */
const isPlace = (data) => Array.isArray(data) && data.length === 2 && data.every((part) => part >= 0 && part <= 1);

/** An element in the colour of a name, the same on every screen. */
function coloured(kind, className, name) {
  let hue = 0;
  for (const character of name) hue = (hue * 53 + character.codePointAt(0)) % 360;
  const made = document.createElement(kind);
  made.className = className;
  made.style.setProperty("--hue", hue);
  return made;
}

export class Board {
  #element = document.getElementById("board");
  /** Key → `{name, node, x, y, to}`: where a cursor is drawn, and where it goes. */
  #others = new Map();
  /** This one, while it is moved by keys: then there is no pointer to be seen. */
  #own = null;
  #place = [0.5, 0.5];
  #tell;
  #user;
  #isMoving = false;
  #drawnAt;

  /** `tell` is what happens here: `move(x, y)`, `leave()`, `click(x, y)`. */
  constructor(user, tell) {
    this.#user = user;
    this.#tell = tell;
    const board = this.#element;
    board.onpointermove = (event) => this.#point(event);
    board.onpointerdown = (event) => { this.#point(event); this.#click(); };
    board.onpointerleave = () => tell.leave();
    board.onkeydown = (event) => this.#key(event);
    board.onblur = () => { if (this.#own) this.#hideOwn(), tell.leave(); };
    new ResizeObserver(() => this.#draw()).observe(board);
  }

  /** The cursors of others: `[key, name, place]` each. */
  show(cursors) {
    const gone = new Set(this.#others.keys());
    for (const [key, name, place] of cursors) {
      if (!isPlace(place)) continue;
      if (!this.#others.has(key)) this.#others.set(key, this.#add(name, place));
      this.#others.get(key).to = place;
      gone.delete(key);
    }
    for (const key of gone) {
      this.#others.get(key).node.remove();
      this.#others.delete(key);
    }
    this.#people();
    this.#draw();
  }

  /** Somebody clicked. */
  ripple(place, name) {
    if (!isPlace(place)) return;
    const made = coloured("div", "ripple", name);
    Object.assign(made.style, { left: `${place[0] * 100}%`, top: `${place[1] * 100}%` });
    made.onanimationend = () => made.remove();
    this.#element.append(made);
  }

  say(state) {
    document.getElementById("state").textContent = STATES[state] ?? "";
    this.#element.dataset.state = state;
  }

  #add(name, [x, y]) {
    const node = coloured("div", "cursor", name), label = document.createElement("span");
    node.innerHTML = '<svg viewBox="0 0 20 24"><path d="M2 2v17l4.6-4.3 3 7 3-1.3-3-6.9H16z"/></svg>';
    node.ariaHidden = "true";
    label.textContent = name;
    node.append(label);
    this.#element.append(node);
    return { name, node, x, y, to: [x, y] };
  }

  #people() {
    const tabs = new Map([[this.#user, 0]]);
    for (const { name } of this.#others.values()) tabs.set(name, (tabs.get(name) ?? 0) + 1);
    const list = document.getElementById("people");
    const said = [...tabs].map(([name, count]) => `${name}${name === this.#user ? " (you)" : ""}${count > 1 ? `, ${count} tabs` : ""}`);
    // What has not changed is not read aloud again.
    if (list.dataset.said === `${said}`) return;
    list.dataset.said = `${said}`;
    list.replaceChildren(...[...tabs.keys()].map((name, n) => Object.assign(coloured("li", "", name), { textContent: said[n] })));
  }

  // ---- Moving ---------------------------------------------------------------------------------

  /** Moves all towards where they go until they are there: so 30 places a second become a line. */
  #draw() {
    if (this.#isMoving) return;
    this.#isMoving = true;
    this.#drawnAt = performance.now();
    requestAnimationFrame((now) => this.#step(now));
  }

  #step(now) {
    const { clientWidth, clientHeight } = this.#element;
    const part = calm.matches ? 1 : 1 - Math.exp(Math.min(0, this.#drawnAt - now) / EASE_MS);
    this.#drawnAt = now;
    this.#isMoving = false;
    for (const cursor of [...this.#others.values(), ...this.#own ? [this.#own] : []]) {
      const [dx, dy] = [cursor.to[0] - cursor.x, cursor.to[1] - cursor.y];
      const isThere = Math.hypot(dx * clientWidth, dy * clientHeight) < 0.3;
      cursor.x += isThere ? dx : dx * part;
      cursor.y += isThere ? dy : dy * part;
      cursor.node.style.transform = `translate(${cursor.x * clientWidth}px, ${cursor.y * clientHeight}px)`;
      this.#isMoving ||= !isThere;
    }
    if (this.#isMoving) requestAnimationFrame((next) => this.#step(next));
  }

  #point({ clientX, clientY }) {
    const { left, top, width, height } = this.#element.getBoundingClientRect();
    this.#hideOwn();
    this.#go((clientX - left) / width, (clientY - top) / height);
  }

  #go(x, y) {
    this.#place = [within(x), within(y)];
    this.#tell.move(...this.#place);
  }

  #click() {
    this.ripple(this.#place, this.#user);
    this.#tell.click(...this.#place);
  }

  #key(event) {
    const [dx, dy] = STEPS[event.key] ?? [];
    if (dx === undefined && event.key !== "Enter") return;
    event.preventDefault();
    const [x, y] = this.#place;
    if (dx !== undefined) this.#go(x + dx, y + dy);
    else if (!event.repeat) this.#click();
    this.#own ??= this.#add(this.#user, this.#place);
    this.#own.to = this.#place;
    this.#draw();
  }

  #hideOwn() {
    this.#own?.node.remove();
    this.#own = null;
  }
}
