// What the compiler knows of batches; checked by `tsc`, never run.

import { Fanfare, type Receipt } from "fanfare";
import { publishAll, type BatchError } from "fanfare/batches";

interface Order { id: number; total: number }
type Topics = { "orders.*": Order; "motd": string };

const typed = new Fanfare<Topics>("https://push.example");
const plain = new Fanfare("https://push.example");

async function main() {
  const receipts: Receipt[] = await publishAll(plain, [{ topic: "a", data: 1 }, { topic: "b", removed: true }], { key: "k", timeout: 0 });
  await publishAll(typed, [{ topic: "orders.7", data: { id: 7, total: 1 }, version: 3 }]);
  // @ts-expect-error data is an Order
  await publishAll(typed, [{ topic: "orders.7", data: "seven" }]);
  await publishAll(typed, [{ topic: "orders.7", data: { id: 7, total: 1 } }, { topic: "motd", data: "hello" }, { topic: "orders.8", removed: true }]);
  // @ts-expect-error each by its own topic
  await publishAll(typed, [{ topic: "orders.7", data: { id: 7, total: 1 } }, { topic: "motd", data: { id: 7, total: 1 } }]);
  // @ts-expect-error no such topic in the map
  await publishAll(typed, [{ topic: "order.7", data: 1 }]);
  // @ts-expect-error no such member
  await publishAll(typed, [{ topic: "motd", dta: "hello" }]);
  // @ts-expect-error a batch has no session to be bound to
  await publishAll(plain, [{ topic: "a", data: 1, bound: true }]);
  await publishAll(plain, (async function* () { yield { topic: "a", data: receipts.length }; })());
  try {
    await publishAll(plain, []);
  } catch (error) {
    const { key, receipts: stored, index } = error as BatchError;
    return [key, stored.length, index];
  }
}
main();
