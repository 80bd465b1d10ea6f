// The bytes of an event stream (`text/event-stream`, as the HTML standard reads it), as blocks.

export class EventStream {
  /** The beginning of a line whose end has not come, in the pieces in which it came. */
  #pieces = [];
  #afterReturn = false;
  #fields = { data: [] };

  /** Calls `heard({event, id, data})` for each block that has data. */
  constructor(heard) {
    this.heard = heard;
  }

  /** Takes the next piece of text, however it is cut. */
  push(text) {
    let at = 0;
    if (this.#afterReturn && text[0] === "\n") at = 1;
    if (text) this.#afterReturn = false;
    for (const { 0: end, index } of text.matchAll(/\r\n|\r|\n/g)) {
      if (index < at) continue;
      this.#pieces.push(text.slice(at, index));
      at = index + end.length;
      this.#afterReturn = end === "\r" && at === text.length;
      this.#line(this.#pieces.join(""));
      this.#pieces = [];
    }
    if (at < text.length) this.#pieces.push(text.slice(at));
  }

  #line(line) {
    if (line === "") {
      const { data, ...rest } = this.#fields;
      this.#fields = { data: [] };
      if (data.length) this.heard({ ...rest, data: data.join("\n") });
      return;
    }
    const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line);
    if (name === "data") this.#fields.data.push(value);
    else if (name === "event" || name === "id" && !value.includes("\0")) this.#fields[name] = value;
  }
}
