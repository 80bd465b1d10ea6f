// How long the examples are, as their READMEs say.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

const FOLDER = new URL("../../examples/", import.meta.url);
const textOf = (path) => readFile(new URL(path, FOLDER), "utf8");

/** How many lines of a source are neither empty nor comments. */
function count(text, isPython) {
  const code = text.replace(/^ *(\/\*(?:(?!\*\/)[^])*\*\/|"""(?:(?!""")[^])*""")$/gm, "");
  return code.split("\n").filter((line) => line.trim() && !line.trim().startsWith(isPython ? "#" : "//")).length;
}

/** Example → how its README begins a line of the table, and which sources it means: those before a mark, or from it on. */
const LINES = {
  chat: { "what is live": [["page/chat.js", "before", "// ---- Paint"]], "what paints": [["page/chat.js", "from", "// ---- Paint"]], "the server": [["server.js"]] },
  cursors: { "what is live": [["page/cursors.js"]], "what moves and paints": [["page/board.js"]], "the server": [["server.js"]] },
  game: { "the page": [["page/game.js"]], "the referee": [["publisher.py"]] },
  "python-feed": { "the page": [["page/board.js"]], "the feed": [["publisher.py"]] },
  sqlite: { "the page": [["page/orders.js"]], "the relay and the server": [["publisher.py"], ["server.py"]] },
  ticker: { "what is live": [["page/ticker.js"]], "what paints": [["page/table.js"]], "the publisher": [["publisher.js"]] },
};

for (const [name, rows] of Object.entries(LINES)) {
  test(`the example ${name} is as long as its README says`, async () => {
    const readme = await textOf(`${name}/README.md`);
    for (const [begin, sources] of Object.entries(rows)) {
      let lines = 0;
      for (const [path, part, mark] of sources) {
        const text = await textOf(`${name}/${path}`);
        const at = text.indexOf(mark);
        assert.ok(!mark || at > 0, mark);
        lines += count(part === "before" ? text.slice(0, at) : part === "from" ? text.slice(at) : text, path.endsWith(".py"));
      }
      const [, said] = new RegExp(`^\\| ${begin}[^|]*\\| (\\d+) \\|`, "m").exec(readme) ?? [];
      assert.equal(Number(said), lines, `${begin}: ${sources.map(([path]) => path)}`);
    }
  });
}
