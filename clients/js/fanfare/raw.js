// The text of an event's data exactly as it was sent: `JSON.parse` rounds large numbers and moves keys.

/** The text of `data` in the JSON text of an event, or of another member; "" where there is none. */
export function rawData(json, name = "data") {
  if (typeof json !== "string") return JSON.stringify(json?.[name]);
  let depth = 0, start = 0, key;
  for (const { 0: token, index } of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:,]/g)) {
    if (token === ":" && depth === 1) start = index + 1;
    else if (token === "{" || token === "[") depth += 1;
    else if (token[0] === '"') { if (depth === 1 && !start) key = JSON.parse(token); }
    else if (token !== ":") {
      if (token !== ",") depth -= 1;
      if (depth > (token === "," ? 1 : 0)) continue;
      if (key === name) return json.slice(start, index).trim();
      start = 0;
    }
  }
  return "";
}
