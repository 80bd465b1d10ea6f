// Elements out of plain descriptions: `h` describes, `draw` makes what is there look like that, with as few changes as it takes.
//
// Text only ever becomes text, and handlers are functions: there is nothing here that could be parsed as markup or as a script.

const OF = Symbol("description");
const SVG = "http://www.w3.org/2000/svg";
const IS_SVG = /^(svg|g|path|circle|line|rect|polyline)$/;
/** An attribute says where these begin, and a property where they are. */
const IS_PROPERTY = /^(value|checked|on.*)$/;

/** Describes an element. `key` keeps it the same among its neighbours, as a button beside one that comes and goes needs it, or a click that is
 * under way is one on the other; of one with `mount(node)`, what is in it is not drawn here. */
export const h = (tag, props, ...children) => ({ tag, props: props ?? {}, children });

const keyOf = (node) => node?.[OF]?.props?.key;

/** Has `parent` hold what is described, and nothing else. */
export function draw(parent, ...described) {
  const wanted = described.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false && each !== "");
  const keys = new Set(wanted.map((each) => each.props?.key));
  const keyed = new Map([...parent.childNodes].map((node) => [keyOf(node), node]));
  let at = parent.firstChild;
  for (const each of wanted) {
    // What is gone goes first, so that what stays need not move.
    while (at && keyOf(at) !== undefined && !keys.has(keyOf(at))) at = removed(at);
    const key = each.props?.key;
    const known = key === undefined ? (keyOf(at) === undefined ? at : null) : keyed.get(key);
    const node = known && fits(known, each) ? known : made(each);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
    update(node, each);
  }
  while (at) at = removed(at);
}

function removed(node) {
  const { nextSibling } = node;
  node.remove();
  return nextSibling;
}

const fits = (node, { tag }) => tag === undefined ? node.nodeType === Node.TEXT_NODE : node[OF]?.tag === tag;

function made({ tag, props }) {
  if (tag === undefined) return document.createTextNode("");
  const node = IS_SVG.test(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  props.mount?.(node);
  return node;
}

function update(node, wanted) {
  if (wanted.tag === undefined) {
    if (node.data !== `${wanted}`) node.data = wanted;
    return;
  }
  const before = node[OF];
  if (before === wanted) return;
  node[OF] = wanted;
  const old = before?.props ?? {};
  for (const name of Object.keys({ ...old, ...wanted.props })) {
    if (name !== "key" && name !== "mount" && old[name] !== wanted.props[name]) set(node, name, wanted.props[name]);
  }
  if (!wanted.props.mount) draw(node, wanted.children);
}

function set(node, name, value) {
  if (name === "style") {
    for (const [property, each] of Object.entries(value ?? {})) node.style.setProperty(property, each);
  } else if (IS_PROPERTY.test(name)) {
    node[name] = value ?? (name === "value" ? "" : null);
  } else if (value === undefined || value === null || value === false) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}

/** An element at once, for what is not drawn by descriptions. */
export function element(description) {
  const node = made(description);
  update(node, description);
  return node;
}
