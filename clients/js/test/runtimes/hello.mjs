// A program that hears what it publishes, and ends when it has closed its client.

import { Fanfare } from "../../fanfare.js";

const fanfare = new Fanfare(process.argv.at(-1));
const got = [];
for await (const { data } of fanfare.subscribe("a", { snapshot: true })) {
  got.push(data);
  if (data === 1) await fanfare.publish("a", 2);
  else break;
}
console.log(JSON.stringify({ got, hasSession: fanfare.session !== null }));
fanfare.close();
