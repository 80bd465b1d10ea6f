// What is made of the data of an event before its handlers get it: its text, what an application's own parser reads in that,
// and what a schema lets through (Standard Schema, as Zod, Valibot, ArkType and others have it).

import { refuse } from "./options.js";
import { rawData } from "./raw.js";

const failed = (code, message, more) => Object.assign(new Error(message), more, { code });

/** What `schema` makes of the data of an event; throws where that is not what it should be. */
function check(schema, { topic, data }) {
  const result = schema["~standard"].validate(data);
  // Whoever waited for it would get events out of turn.
  if (result instanceof Promise) throw failed("schema", `the schema of ${topic} answers later: one is needed that answers at once`, { topic });
  const { issues, value } = result;
  if (!issues) return value;
  const said = issues.map(({ message, path }) => [path?.map((part) => part?.key ?? part).join("."), message].filter(Boolean).join(": "));
  throw failed("schema", `${topic} has other data: ${said.join("; ")}`, { topic, issues });
}

/**
 * A function that gives an event that came as `text` its `raw` and `data`, and throws where it must not be handed over.
 * Refuses `options` that are of another kind. `matcher` is the client's. Of `schemas`, by pattern, that of the very topic counts, else the first that covers it.
 */
export function reader(options, matcher) {
  refuse(options);
  const { parse, raw, schemas } = options;
  const byPattern = new Map(Object.entries(schemas ?? {}));
  const rules = [...byPattern].map(([pattern, schema]) => [matcher(pattern), schema]);
  return (event, text) => {
    if (parse || raw) event.raw = rawData(text);
    if (parse) event.data = parse(event.raw, event);
    // A tombstone has no data of its kind.
    if (event.removed) return;
    const schema = byPattern.get(event.topic) ?? rules.find(([matches]) => matches(event.topic))?.[1];
    if (schema) event.data = check(schema, event);
  };
}
