// Publishing by hand: what the form says, as one request, and as a command for a shell and in other languages.

import { BROKER } from "./ask.js";
import { h } from "./dom.js";

const MAX_DRAFTS = 10;
/** What was published from this page, the newest first; gone with it. */
const drafts = [];

/** What a form says, as one request; its path is within the broker. */
function requestOf({ topic, type, key, format, data }) {
  const path = `v1/topics/${encodeURIComponent(topic.trim())}`;
  if (format === "removed") return { method: "DELETE", path, headers: {} };
  const headers = { "Content-Type": { json: "application/json", text: "text/plain; charset=utf-8", binary: "application/octet-stream" }[format] };
  if (type.trim()) headers["X-Event-Type"] = type.trim();
  if (key.trim()) headers["Idempotency-Key"] = key.trim();
  return { method: "POST", path: `${path}/events`, headers, body: format === "binary" ? bytesOf(data) : data };
}

/** Bytes that are written in base64; nothing where they are not. */
function bytesOf(text) {
  try { return Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0)); } catch { return undefined; }
}

/** One word for a POSIX shell. */
export function shellWord(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

const SNIPPETS = {
  curl(form, token) {
    const { method, path, headers } = requestOf(form);
    const parts = [`curl ${method === "POST" ? "" : `-X ${method} `}${shellWord(BROKER + path)}`];
    for (const [name, value] of Object.entries(headers)) parts.push(`-H ${shellWord(`${name}: ${value}`)}`);
    if (token) parts.push('-H "Authorization: Bearer $FANFARE_API_KEY"');
    if (method === "POST") parts.push(form.format === "binary" ? `--data-binary @FILE` : `--data-raw ${shellWord(form.data) || "''"}`);
    return parts.join(" \\\n  ");
  },
  CLI({ topic, type, key, format, data }, token) {
    if (format === "removed") return `fanfare publish --url ${shellWord(BROKER)} ${shellWord(topic)} --removed`;
    const parts = [`${token ? "FANFARE_API_KEY=… " : ""}fanfare publish --url ${shellWord(BROKER)}`];
    if (type) parts.push(`--type ${shellWord(type)}`);
    if (key) parts.push(`--idempotency-key ${shellWord(key)}`);
    if (format === "text") parts.push("--text");
    return `${parts.join(" ")} ${shellWord(topic)} ${shellWord(data) || "''"}`;
  },
  JavaScript({ topic, type, key, format, data }, token) {
    const options = Object.entries({ type: type || undefined, key: key || undefined, removed: format === "removed" || undefined }).filter(([, value]) => value !== undefined);
    const rest = options.length ? `, { ${options.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ")} }` : "";
    const value = format === "json" ? data : format === "removed" ? "undefined" : JSON.stringify(data);
    return `import { Fanfare } from "${BROKER}fanfare.js";\nconst fanfare = new Fanfare(${token ? "{ token: KEY }" : ""});\nawait fanfare.publish(${JSON.stringify(topic)}, ${value}${rest});`;
  },
  Python({ topic, type, key, format, data }, token) {
    const options = [type && `type=${JSON.stringify(type)}`, key && `key=${JSON.stringify(key)}`].filter(Boolean).map((each) => `, ${each}`).join("");
    const value = format === "json" ? `json.loads(${JSON.stringify(data)})` : JSON.stringify(data);
    const call = format === "removed" ? `fanfare.remove(${JSON.stringify(topic)})` : `fanfare.publish(${JSON.stringify(topic)}, ${value}${options})`;
    return `${format === "json" ? "import json\n" : ""}from fanfare import Fanfare\nfanfare = Fanfare("${BROKER.slice(0, -1)}"${token ? ", token=KEY" : ""})\n${call}`;
  },
};

/** A form by which one publishes, to a topic of one's choice or to the one that is given. */
export class PublishForm {
  form = { topic: "orders.eu.42", type: "", key: "", format: "json", data: '{"total": 42}' };
  #result = { state: "", text: "" };
  #language = "curl";
  #isBusy = false;
  /** A draft that was taken out replaces what is typed. */
  #version = 0;

  constructor(app, topic) {
    this.app = app;
    this.fixed = topic;
    if (topic) Object.assign(this.form, { topic, data: "" });
    if (drafts.length && !topic) Object.assign(this.form, drafts[0]);
  }

  #field(name, label, rest, tag = "input") {
    return h("div", { class: "field" },
      h("label", { for: `publish-${name}` }, label),
      h(tag, { key: this.#version, id: `publish-${name}`, class: "mono", autocomplete: "off", autocapitalize: "off", spellcheck: "false", value: this.form[name], oninput: ({ target }) => { this.form[name] = target.value; this.app.changed(); }, ...rest }));
  }

  view() {
    const { form, app } = this;
    const isRemoval = form.format === "removed";
    const submit = (event) => { event.preventDefault(); this.#publish(); };
    return h("form", { id: "publish-form", novalidate: true, onsubmit: submit },
      !this.fixed && this.#field("topic", "Topic", { type: "text" }),
      h("div", { class: "pair" },
        this.#field("type", ["Type ", h("span", { class: "quiet" }, "(optional)")], { type: "text", placeholder: "created", disabled: isRemoval }),
        h("div", { class: "field" },
          h("label", { for: "publish-format" }, "Data is"),
          h("select", { id: "publish-format", value: form.format, onchange: ({ target }) => { form.format = target.value; app.changed(); } },
            [["json", "JSON"], ["text", "Text"], ["binary", "Base64"], ["removed", "None: remove"]].map(([value, name]) => h("option", { value, selected: value === form.format }, name))))),
      this.#field("data", "Data", { rows: 4, "aria-describedby": "publish-result", disabled: isRemoval, onkeydown: (key) => { if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) submit(key); } }, "textarea"),
      this.#field("key", ["Key ", h("span", { class: "quiet" }, "(optional: repeats with it are stored once)")], { type: "text", disabled: isRemoval }),
      h("div", { class: "row" },
        h("button", { type: "submit", id: "publish", class: "button primary", disabled: this.#isBusy }, isRemoval ? "Remove" : "Publish"),
        h("output", { id: "publish-result", class: "result mono", "data-state": this.#result.state }, this.#result.text)),
      drafts.length > 0 && h("div", { class: "field drafts" },
        h("label", { for: "drafts" }, "Before, from this page"),
        h("select", { id: "drafts", onchange: ({ target }) => this.#take(drafts[target.value]) }, h("option", { value: "" }, "…"), drafts.map((draft, at) => h("option", { value: at }, `${draft.topic} ${draft.type} ${draft.data}`.slice(0, 60))))));
  }

  /** The same in other words. */
  snippets() {
    return h("div", { class: "snippet" },
      h("div", { class: "snippet-head" },
        h("label", { for: "language" }, "Publish this by"),
        h("select", { id: "language", onchange: ({ target }) => { this.#language = target.value; this.app.changed(); } }, Object.keys(SNIPPETS).map((name) => h("option", { value: name }, name))),
        copyButton(this.app, "curl-publish", "the command that publishes")),
      h("pre", { id: "curl-publish", class: "mono", tabindex: "0", role: "region", "aria-label": "How to publish this" }, SNIPPETS[this.#language](this.form, this.app.token)));
  }

  #take(draft) {
    if (!draft) return;
    Object.assign(this.form, draft, this.fixed && { topic: this.fixed });
    this.#version += 1;
    this.app.changed();
  }

  async #publish() {
    const { form, app } = this;
    if (!form.topic.trim()) return document.getElementById("publish-topic")?.focus();
    const request = requestOf(form);
    if (request.method === "POST" && request.body === undefined) return this.#say("bad", "this is not base64");
    if (form.format === "removed" && !(await app.askForName({ title: "Remove a value", text: "The topic has no current value any more. Its history stays.", name: form.topic.trim(), action: "Remove" }))) return;
    const { path, ...options } = request;
    this.#isBusy = true;
    this.#say("", "…");
    try {
      const what = `${form.format === "removed" ? "removed the value of" : "published to"} ${form.topic.trim()}`;
      const id = await app.act(what, async () => (await app.ask(path, options)).id ?? "published, not kept");
      this.#say("good", `${request.method === "POST" ? 201 : 200} ${id}`);
      drafts.unshift({ ...form });
      drafts.splice(MAX_DRAFTS);
    } catch (error) {
      this.#say("bad", error.message);
    } finally {
      this.#isBusy = false;
      app.changed();
    }
  }

  #say(state, text) {
    this.#result = { state, text };
    this.app.changed();
  }
}

/** A button that copies the text of another element. */
export function copyButton(app, id, what) {
  return h("button", {
    type: "button", class: "button small",
    onclick: () => {
      const source = document.getElementById(id);
      // The clipboard exists only on secure origins; elsewhere the text is selected for the keyboard.
      const copied = navigator.clipboard?.writeText(source.textContent) ?? Promise.reject(new Error("no clipboard"));
      copied.then(() => app.note("", "copied"), () => getSelection().selectAllChildren(source));
    },
  }, "Copy", h("span", { class: "visually-hidden" }, ` ${what}`));
}
