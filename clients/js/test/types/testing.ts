// The broker for tests: what the compiler knows of it.

import { Fanfare } from "fanfare";
import { TestBroker } from "fanfare/testing";

async function test() {
  const broker = new TestBroker({ fakeTime: true, presence: ["room.>"], authenticate: (token) => ({ user: token }) });
  const fanfare = new Fanfare(broker.url, { WebSocket: broker.WebSocket });
  const { id } = await broker.publish("a", 1, { ttl_ms: 5 });
  id?.length;
  await broker.refuse("policy");
  await broker.refuse(null);
  // @ts-expect-error no such reason
  await broker.refuse("tired");
  await broker.sleep(60_000);
  broker.latest("a")?.data;
  fanfare.close();
  broker.close();
}
void test;
