// The page at /docs: renders /openapi.json, whatever it says, without a network or a library.
//
// Text from the document only ever becomes text nodes, never markup. From top to bottom: building
// elements, the small markdown of descriptions, schemas, examples and curl lines, operations, the
// index with its filter, and the start.

"use strict";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
/** The broker that served this page, also where a proxy has it under a prefix. */
const BROKER = new URL(".", location).href;
let spec = {};

// ---- elements

/** Makes an element; attributes whose value is null or false are left out. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
const byId = (id) => document.getElementById(id);

/** Follows `$ref`; what stands beside it (a description) wins. */
function resolve(node) {
  const seen = new Set();
  while (node && typeof node.$ref === "string" && !seen.has(node.$ref)) {
    seen.add(node.$ref);
    const { $ref, ...beside } = node;
    let target = spec;
    for (const part of $ref.replace(/^#\//, "").split("/")) {
      target = target?.[decodeURIComponent(part).replace(/~1/g, "/").replace(/~0/g, "~")];
    }
    node = { ...target, ...beside };
  }
  return node ?? {};
}

const refName = (node) => (typeof node?.$ref === "string" ? node.$ref.split("/").pop() : null);

// ---- markdown: paragraphs, lists, fenced code, `code`, **bold**, [links](https://…)

function markdown(text, wrap = (blocks) => blocks) {
  const blocks = [];
  for (const part of (text ?? "").split(/(^```[^\n]*\n[\s\S]*?^```$)/m)) {
    const fence = /^```[^\n]*\n([\s\S]*?)\n?```$/.exec(part);
    if (fence) {
      blocks.push(code(fence[1]));
      continue;
    }
    for (const paragraph of part.split(/\n\s*\n/).map((p) => p.trim()).filter(Boolean)) {
      if (/^- /.test(paragraph)) {
        const items = paragraph.split(/\n(?=- )/).map((item) => el("li", {}, inline(item.slice(2))));
        blocks.push(el("ul", {}, items));
      } else {
        blocks.push(el("p", {}, inline(paragraph)));
      }
    }
  }
  return blocks.length ? wrap(blocks) : [];
}

function inline(text) {
  const out = [];
  let rest = text;
  while (rest) {
    const found = /(`+)(.+?)\1|\*\*(.+?)\*\*|\[([^\]]+)\]\(([^)\s]+)\)/s.exec(rest);
    if (!found) {
      out.push(rest);
      break;
    }
    out.push(rest.slice(0, found.index));
    const [whole, , codeText, bold, label, target] = found;
    if (codeText !== undefined) out.push(el("code", {}, codeText));
    else if (bold !== undefined) out.push(el("strong", {}, inline(bold)));
    else if (/^(https?:|#|\/(?!\/))/.test(target)) out.push(el("a", { href: target, rel: "noreferrer" }, inline(label)));
    else out.push(label);
    rest = rest.slice(found.index + whole.length);
  }
  return out;
}

/** A block of code with a button that copies it. */
function code(text, label = "Example") {
  const said = byId("said");
  const pre = el("pre", { tabindex: "0", role: "region", "aria-label": label }, el("code", {}, text));
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy: ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copy(text);
    if (!done) getSelection().selectAllChildren(pre);
    button.textContent = done ? "Copied" : "Ctrl+C";
    said.textContent = done ? "Copied." : "Selected: copy it with Ctrl+C.";
    setTimeout(() => {
      button.textContent = "Copy";
      said.textContent = "";
    }, 1500);
  });
  return el("div", { class: "code" }, pre, button);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS there is no clipboard API outside of localhost.
    const area = el("textarea", { readonly: true, class: "quiet" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

// ---- schemas

/** A link to a schema of the document, or what kind of value it is. */
function typeOf(schema) {
  const name = refName(schema);
  if (name) return [el("a", { href: `#schema-${slug(name)}` }, name)];
  if (schema === true || schema === undefined) return ["any"];
  if ("const" in schema) return [el("code", {}, JSON.stringify(schema.const))];
  if (schema.type === "array") return ["array of ", typeOf(schema.items)];
  const choice = schema.oneOf ?? schema.anyOf;
  if (choice) return choice.flatMap((one, at) => [at ? " or " : "", one.$ref ? typeOf(one) : (one.title ?? typeOf(one))]);
  if (Array.isArray(schema.type)) return [schema.type.join(" or ")];
  const format = schema.format ?? schema.contentEncoding;
  return [schema.type ? `${schema.type}${format ? ` (${format})` : ""}` : "any"];
}

/** What a schema demands beside its type, in words. */
function limits(schema) {
  const out = [];
  const add = (label, value) => out.push([label, " ", el("code", {}, typeof value === "string" ? value : JSON.stringify(value))]);
  if (schema.enum) out.push(["one of ", schema.enum.flatMap((value, at) => [at ? ", " : "", el("code", {}, String(value))])]);
  const range = (low, high, unit) => {
    const [min, max] = [schema[low], schema[high]];
    const n = (value) => value.toLocaleString("en");
    const counted = (value) => n(value) + (value === 1 ? unit.replace(/s$/, "") : unit);
    if (min !== undefined && max !== undefined) out.push([min === max ? counted(min) : `${n(min)} to ${counted(max)}`]);
    else if (min !== undefined) out.push([`at least ${counted(min)}`]);
    else if (max !== undefined) out.push([`at most ${counted(max)}`]);
  };
  range("minimum", "maximum", "");
  if (schema.exclusiveMinimum !== undefined) out.push([`more than ${schema.exclusiveMinimum}`]);
  range("minLength", "maxLength", " characters");
  range("minItems", "maxItems", " items");
  if ("default" in schema) add("default", schema.default);
  if (schema.pattern) add("pattern", schema.pattern);
  return out.length ? el("p", { class: "limits" }, out.flatMap((one, at) => [at ? " · " : "", one])) : null;
}

/** A schema in full: what it is, its members, its choices. Other named schemas are linked. */
function schemaView(schema, depth = 0) {
  const name = refName(schema);
  if (name || depth > 6) return el("p", { class: "type" }, typeOf(schema));
  const out = [];
  if (schema.type === "array" && schema.items) {
    out.push(el("p", { class: "type" }, typeOf(schema)), limits(schema));
    if (isComposite(schema.items)) out.push(schemaView(schema.items, depth + 1));
    return out;
  }
  const choice = schema.oneOf ?? schema.anyOf;
  if (choice && !isComposite(schema)) {
    out.push(el("p", { class: "type" }, typeOf(schema)));
    return out;
  }
  if (choice) {
    out.push(el("p", { class: "type" }, schema.oneOf ? "one of" : "any of"));
    out.push(el("ul", { class: "choices" }, choice.map((one) => el("li", {},
      one.title ? el("h4", {}, el("code", {}, one.title)) : null,
      one.title ? markdown(one.description) : [],
      schemaView(one, depth + 1)))));
    return out;
  }
  if (schema.properties) {
    const rows = Object.entries(schema.properties).map(([key, value]) => row(key, value, schema.required?.includes(key), depth));
    out.push(table(["Member", "Type", "Description"], rows, "Members"));
    if (schema.additionalProperties === false) out.push(el("p", { class: "limits" }, "No other members."));
    return out;
  }
  out.push(el("p", { class: "type" }, schema.additionalProperties?.type ? `object; each value a ${schema.additionalProperties.type}` : typeOf(schema)));
  out.push(limits(schema));
  return out;
}

/** Whether there is more to a schema than its type says: members, or choices without a name. */
function isComposite(schema) {
  const choice = schema.oneOf ?? schema.anyOf;
  return Boolean(schema.properties || choice?.some((one) => !refName(one)));
}

function row(key, schema, required, depth, description = undefined) {
  const named = resolve(schema);
  const nested = !refName(schema) && isComposite(schema) ? schemaView(schema, depth + 1) : null;
  return el("tr", {},
    el("th", { scope: "row" }, el("code", {}, key), required ? el("span", { class: "required" }, "required") : null),
    el("td", {}, typeOf(schema)),
    el("td", {}, markdown(description ?? named.description), refName(schema) ? null : limits(named), nested));
}

function table(head, rows, label) {
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, el("table", {},
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, rows)));
}

// ---- examples

const isLines = (type) => /^application\/(x-ndjson|ndjson|jsonl)/.test(type);

/** An example as it travels. */
function written(type, value, indent = 2) {
  if (isLines(type) && Array.isArray(value)) return value.map((one) => JSON.stringify(one)).join("\n");
  return typeof value === "string" && !/json/.test(type) ? value : JSON.stringify(value, null, indent);
}

function examplesOf(media) {
  const named = Object.values(media.examples ?? {}).map(resolve);
  if (named.length) return named.map((one) => [one.summary ?? "Example", one.value]);
  return "example" in media ? [["Example", media.example]] : [];
}

function mediaView(content) {
  return Object.entries(content ?? {}).map(([type, media]) => {
    const schema = media.schema ?? {};
    const view = refName(schema)
      ? el("p", { class: "type" }, typeOf(schema))
      : [markdown(schema.description), schemaView(schema)];
    return el("div", { class: "media" },
      el("h4", {}, el("code", {}, type)),
      view,
      examplesOf(media).map(([summary, value]) => el("figure", {},
        el("figcaption", {}, summary), code(written(type, value), summary))));
  });
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The parameters of an operation, those of its path included. */
function parametersOf(path, operation) {
  const all = [...(path.parameters ?? []), ...(operation.parameters ?? [])].map(resolve);
  return all.filter((one, at) => all.findLastIndex((other) => other.name === one.name && other.in === one.in) === at);
}

/** A curl line for the broker that served this page: as it stands where that is open (TOKEN is ignored). */
function curl(method, pathName, path, operation) {
  const parameters = parametersOf(path, operation);
  const query = new URLSearchParams();
  let route = pathName;
  for (const one of parameters) {
    const value = one.example ?? resolve(one.schema).examples?.[0] ?? "";
    if (one.in === "path") route = route.replace(`{${one.name}}`, encodeURIComponent(value));
    if (one.in === "query" && "example" in one) for (const each of [value].flat()) query.append(one.name, each);
  }
  const search = query.size ? `?${query}` : "";
  const words = ["curl"];
  const success = Object.entries(operation.responses ?? {}).find(([status]) => /^[12]/.test(status));
  if (success?.[1].content?.["text/event-stream"]) words.push("-N");
  if (success?.[0] === "101") words.push("-N --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='");
  if (method !== "get" && !(method === "post" && operation.requestBody)) words.push(`-X ${method.toUpperCase()}`);
  words.push(quoted(`${new URL(`.${route}`, BROKER)}${search}`));
  if (security(operation).length) words.push("\\\n  -H 'Authorization: Bearer TOKEN'");
  const [type, media] = Object.entries(resolve(operation.requestBody).content ?? {})[0] ?? [];
  if (type) {
    const [, value] = examplesOf(media)[0] ?? ["", null];
    words.push(`\\\n  -H ${quoted(`Content-Type: ${type}`)}`, `\\\n  -d ${quoted(written(type, value, 0))}`);
  }
  return words.join(" ");
}

/** The ways to identify oneself that an operation knows; empty where it needs none. */
function security(operation) {
  return (operation.security ?? spec.security ?? []).flatMap((one) => Object.keys(one));
}

// ---- operations

function operationView(method, pathName, path, operation) {
  const id = slug(operation.operationId ?? `${method} ${pathName}`);
  const parameters = parametersOf(path, operation);
  const body = resolve(operation.requestBody);
  const schemes = security(operation);
  return el("article", { id, class: "operation", "data-words": words(method, pathName, operation.summary, operation.operationId) },
    el("h3", {}, anchor(id, operation.summary ?? pathName)),
    el("p", { class: "route" }, badge(method), el("code", {}, pathName.split(/(?=\/)/).flatMap((part) => [el("wbr"), part]))),
    operation.deprecated ? el("p", { class: "deprecated" }, "Deprecated.") : null,
    markdown(operation.description),
    schemes.length
      ? el("p", { class: "auth" }, "Credentials: ", schemes.flatMap((name, at) => [at ? " or " : "", el("a", { href: `#scheme-${slug(name)}` }, name)]), ", where the broker has any configured.")
      : el("p", { class: "auth" }, "No credentials needed."),
    code(curl(method, pathName, path, operation), `curl: ${operation.summary}`),
    parameters.length ? section("Parameters", table(["Name", "In", "Type", "Description"], parameters.map(parameterRow), "Parameters")) : null,
    operation.requestBody ? section("Request body", markdown(body.description), el("p", { class: "limits" }, body.required ? "Required." : "Optional."), mediaView(body.content)) : null,
    section("Responses", Object.entries(operation.responses ?? {}).map(([status, response]) => responseView(status, resolve(response)))));
}

const section = (title, ...children) => el("section", {}, el("h4", { class: "part" }, title), children);
const badge = (method) => el("span", { class: `badge ${method}` }, method.toUpperCase());
const anchor = (id, text) => el("a", { class: "anchor", href: `#${id}` }, text);
const words = (...texts) => texts.join(" ").toLowerCase();

function parameterRow(parameter) {
  const schema = parameter.schema ?? {};
  return el("tr", {},
    el("th", { scope: "row" }, el("code", {}, parameter.name), parameter.required ? el("span", { class: "required" }, "required") : null),
    el("td", {}, parameter.in),
    el("td", {}, typeOf(schema)),
    el("td", {}, markdown(parameter.description), refName(schema) ? null : limits(schema)));
}

function responseView(status, response) {
  const headers = Object.entries(response.headers ?? {}).map(([name, header]) => {
    const { required, schema, description } = resolve(header);
    return row(name, schema ?? {}, required, 0, description);
  });
  const good = /^[123]/.test(status);
  return el("details", { class: "response", open: good },
    el("summary", {}, el("span", { class: `status ${good ? "good" : "bad"}` }, status), el("span", {}, inline(response.description ?? ""))),
    headers.length ? table(["Header", "Type", "Description"], headers, "Headers") : null,
    mediaView(response.content));
}

function schemaArticle(name, schema) {
  const id = `schema-${slug(name)}`;
  return el("article", { id, class: "schema", "data-words": words(name, "schema") },
    el("h3", {}, anchor(id, name)), markdown(schema.description), schemaView(schema));
}

function schemeArticle(name, scheme) {
  const id = `scheme-${slug(name)}`;
  const where = scheme.type === "http" ? `Authorization: ${scheme.scheme[0].toUpperCase()}${scheme.scheme.slice(1)} …` : `${scheme.in}: ${scheme.name}`;
  return el("article", { id, class: "schema", "data-words": words(name, "credentials security") },
    el("h3", {}, anchor(id, name)), el("p", { class: "type" }, el("code", {}, where)), markdown(scheme.description));
}

// ---- the page

/** The groups of the page: `[title, description, [[id, label, method?, element]…]]`. */
function groups() {
  const byTag = new Map((spec.tags ?? []).map((tag) => [tag.name, [tag.name, tag.description, []]]));
  for (const [pathName, path] of Object.entries(spec.paths ?? {})) {
    for (const method of METHODS.filter((one) => path[one])) {
      const operation = path[method];
      const tag = operation.tags?.[0] ?? "Other";
      if (!byTag.has(tag)) byTag.set(tag, [tag, "", []]);
      const view = operationView(method, pathName, path, operation);
      byTag.get(tag)[2].push([view.id, operation.summary ?? pathName, method, view]);
    }
  }
  const entries = (record, article) => Object.entries(record ?? {}).map(([name, one]) => {
    const view = article(name, one);
    return [view.id, name, null, view];
  });
  return [...byTag.values(),
    ["Credentials", "", entries(spec.components?.securitySchemes, schemeArticle)],
    ["Schemas", "", entries(spec.components?.schemas, schemaArticle)]].filter(([, , items]) => items.length);
}

function render() {
  const { info } = spec;
  document.title = `${info.title} API ${info.version}`;
  byId("title").textContent = `${info.title} API ${info.version}`;
  const overview = el("section", { id: "overview" }, el("h1", {}, `${info.title} API`),
    el("p", { class: "lead" }, info.summary ?? ""), markdown(info.description));
  const pages = [overview];
  const index = [el("ul", { class: "top" }, el("li", {}, el("a", { href: "#overview" }, "Overview")))];
  for (const [title, description, items] of groups()) {
    const id = `group-${slug(title)}`;
    pages.push(el("section", { id, class: "group" }, el("h2", {}, anchor(id, title)), markdown(description), items.map(([, , , view]) => view)));
    index.push(el("section", { class: "entries" }, el("h2", {}, title),
      el("ul", {}, items.map(([target, label, method, view]) => el("li", { "data-words": view.dataset.words },
        el("a", { href: `#${target}` }, el("span", {}, label), method ? badge(method) : null))))));
  }
  byId("main").replaceChildren(...pages);
  byId("index").replaceChildren(...index);
}

/** Hides the entries of the index in which not every word of the filter occurs. */
function filter() {
  const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const group of document.querySelectorAll("#index .entries")) {
    const items = [...group.querySelectorAll("li")];
    for (const item of items) item.hidden = !wanted.every((word) => item.dataset.words.includes(word));
    const left = items.filter((item) => !item.hidden).length;
    group.hidden = left === 0;
    shown += left;
  }
  byId("nothing").textContent = shown ? "" : "Nothing matches.";
}

/** Marks the entry of the index whose article is being read. */
function follow() {
  const links = new Map([...document.querySelectorAll("#index a")].map((link) => [link.hash.slice(1), link]));
  const visible = new Set();
  let current = null;
  const observer = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) visible[isIntersecting ? "add" : "delete"](target.id);
    const id = [...links.keys()].find((one) => visible.has(one));
    if (!id || id === current) return;
    links.get(current)?.removeAttribute("aria-current");
    links.get(id).setAttribute("aria-current", "true");
    current = id;
    const list = byId("side");
    const [outer, inner] = [list.getBoundingClientRect(), links.get(id).getBoundingClientRect()];
    if (inner.top < outer.top + 60 || inner.bottom > outer.bottom) list.scrollTop += inner.top - outer.top - outer.height / 3;
  }, { rootMargin: "-70px 0px -55% 0px" });
  for (const target of document.querySelectorAll("#overview, article")) observer.observe(target);
}

function menu(open) {
  document.body.classList.toggle("open", open);
  byId("menu").setAttribute("aria-expanded", String(open));
}

async function start() {
  const main = byId("main");
  byId("menu").addEventListener("click", () => menu(!document.body.classList.contains("open")));
  byId("side").addEventListener("click", (event) => event.target.closest("a") && menu(false));
  byId("filter").addEventListener("input", filter);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") menu(false);
    if (event.key === "/" && !/INPUT|TEXTAREA/.test(event.target.tagName)) {
      event.preventDefault();
      menu(true);
      byId("filter").focus();
    }
  });
  try {
    const answer = await fetch("openapi.json");
    if (!answer.ok) throw new Error(`the broker answered ${answer.status}`);
    spec = await answer.json();
    render();
    follow();
    byId(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
  } catch (error) {
    byId("state")?.replaceChildren("The description can't be shown: ", error.message, ". See ", el("a", { href: "openapi.json" }, "openapi.json"), ".");
  }
  main.removeAttribute("aria-busy");
}

start();
