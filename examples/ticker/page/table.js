// A table of which only the rows that can be seen exist. What comes between two frames is painted once.

const ROW = 36, SPARE = 2;
const price = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", signDisplay: "exceptZero", minimumFractionDigits: 2 });
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const compare = (a, b) => (a.symbol < b.symbol ? -1 : 1);

export class Table {
  /** Frames since somebody set it back. */
  frames = 0;
  /** Symbol → `{symbol, quote, count, skipped, direction}`; and those that are looked for, in their order. */
  #rows = new Map();
  #shown = [];
  #wanted = "";
  #scroll;
  #body;
  #height = 0;
  /** What is painted where: `{node, cells, row, count}`. A row's place in the order says which one is its. */
  #slots = [];
  #isUnordered = false;

  constructor(scroll, body) {
    [this.#scroll, this.#body] = [scroll, body];
    new ResizeObserver(() => this.#fit()).observe(scroll);
    requestAnimationFrame(() => this.#frame());
  }

  /** Takes a quote; one of before the page began is no change. */
  set(symbol, quote, skipped, isSnapshot) {
    let row = this.#rows.get(symbol);
    if (!row) {
      this.#rows.set(symbol, row = { symbol, quote, count: 0, skipped: 0, direction: 0 });
      this.#isUnordered = true;
    }
    row.direction = isSnapshot ? 0 : Math.sign(quote.price - row.quote.price);
    row.quote = quote;
    row.skipped += skipped;
    row.count += 1;
  }

  /** Shows those whose symbol begins so. */
  find(text) {
    this.#wanted = text;
    this.#isUnordered = true;
    this.#scroll.scrollTop = 0;
  }

  #fit() {
    this.#height = this.#scroll.clientHeight;
    const count = Math.ceil(this.#height / ROW) + SPARE;
    while (this.#slots.length > count) this.#slots.pop().node.remove();
    while (this.#slots.length < count) this.#slots.push(this.#slot());
    for (const slot of this.#slots) slot.row = null;
  }

  #slot() {
    const node = document.createElement("div");
    node.role = "row";
    node.innerHTML = `<b role="rowheader"></b><span role="cell"></span><span role="cell"></span><span role="cell" class="range"><i></i></span><span role="cell"></span>`;
    this.#body.append(node);
    return { node, cells: [...node.children], mark: node.querySelector("i"), row: null, count: 0 };
  }

  #order() {
    this.#isUnordered = false;
    this.#shown = [...this.#rows.values()].filter(({ symbol }) => symbol.startsWith(this.#wanted)).sort(compare);
    this.#body.style.height = `${this.#shown.length * ROW}px`;
    this.#scroll.parentNode.ariaRowCount = this.#shown.length + 1;
  }

  #frame() {
    this.frames += 1;
    if (this.#isUnordered) this.#order();
    const first = Math.max(0, Math.min(Math.floor(this.#scroll.scrollTop / ROW), this.#shown.length - this.#slots.length));
    for (let at = first; at < first + this.#slots.length; at++) this.#paint(this.#slots[at % this.#slots.length], at);
    requestAnimationFrame(() => this.#frame());
  }

  /** Paints the row that is `at` that place, where it is not what stands there already. */
  #paint(slot, at) {
    const row = this.#shown[at];
    const isSame = slot.row === row && slot.at === at;
    if (isSame && slot.count === row?.count) return;
    const { node, cells: [symbol, last, change, range, skipped], mark } = slot;
    node.hidden = !row;
    Object.assign(slot, { row, at, count: row?.count });
    if (!row) return;
    const { quote: { price: now, open, low, high }, direction } = row;
    if (!isSame) {
      node.style.transform = `translateY(${at * ROW}px)`;
      node.ariaRowIndex = at + 2;
      symbol.textContent = row.symbol;
      for (const flash of last.getAnimations()) flash.cancel();
    }
    last.textContent = price.format(now);
    change.textContent = percent.format(now / open - 1);
    change.className = now > open ? "up" : now < open ? "down" : "";
    mark.style.left = `${high > low ? (100 * (now - low)) / (high - low) : 50}%`;
    range.title = `${price.format(low)} to ${price.format(high)}`;
    skipped.textContent = row.skipped || "";
    if (isSame && direction) {
      last.dataset.moved = direction > 0 ? "up" : "down";
      const colour = `var(--${last.dataset.moved}-soft)`;
      if (!calm.matches) last.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], { duration: 700, easing: "ease-out" });
    } else {
      delete last.dataset.moved;
    }
  }
}
