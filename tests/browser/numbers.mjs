// What the nodes say of themselves (`$sys.metrics`), as a test wants them to: a page that subscribes to it hears this instead.

/** What a node says once a second, in its `number`th second; `change` has it say otherwise. */
export function report(node, number, at, change = () => {}) {
  const wave = (period, low, high) => low + (high - low) * (0.5 + 0.5 * Math.sin((2 * Math.PI * at) / 1000 / period));
  const data = {
    node, version: "0.1.0", started: new Date(at - number * 1000).toISOString(), uptime_ms: number * 1000, number, period_ms: 1000, ready: true, failing: [],
    sessions: { websocket: Math.round(wave(700, 600, 812)), sse: 40, limit: 16384 }, subscriptions: 2130, sockets: { open: 871, limit: 18022 },
    second: {
      published: Math.round(wave(120, 60, 180)), published_bytes: 40960, superseded: 0, repeated: 0, delivered: Math.round(wave(160, 20000, 96000)), written_bytes: 30408704,
      replayed: 0, conflated: 12, skipped: Math.round(wave(90, 0, 30)), gaps: 0, refused: 0, connected: 4, closed: 2,
    },
    total: {
      published: 216240, published_bytes: 73809920, superseded: 0, repeated: 17, delivered: 172992000, written_bytes: 54796484608,
      replayed: 50123, conflated: 2210, skipped: 871, gaps: 3, refused: 41, connected: 3012, closed: 2160,
    },
    latency_ms: { commit: { p50: 1.2, p99: 4.1, count: 118 }, delivery: { p50: wave(200, 0.4, 0.9), p99: wave(60, 1.5, 6.3), count: 240 }, relay: { p50: 0.9, p99: 2.4, count: 96 } },
    gaps: { retention: 2, loss: 1 }, refusals: { forbidden: 40, too_many: 1 }, closes: { left: 1900, gone: 255, slow_consumer: 5 },
    queue: { bytes: Math.round(wave(70, 100000, 921600)), largest_bytes: Math.round(wave(45, 50000, 720000)), limit_bytes: 4194304, inbox: 3, inbox_limit: 4096 },
    slowest: [{ session: "7a028dce8369171ecd395365555c9db0", user: "ada", transport: "websocket", queued_bytes: 720000, lag_ms: 1310, skipped: 871 }],
    disk: { used_bytes: 443687091, limit_bytes: 1140850688, free_bytes: 20401094656 },
    history: { kind: "disk", events: 180233, topics: 412, bytes: 51380224, limit_bytes: 1073741824, pending_bytes: 0, pending_limit_bytes: 67108864 },
    memory: { rss_bytes: 188743680, limit_bytes: 536870912 }, process: { cpu_ms: 231, threads: 14, descriptors: 891, descriptors_limit: 65536 },
    redis: { state: "connected", since_ms: 312000, reconnects: 2, nodes: 2 },
    webhooks: [{ name: "crm", turn: true, lag_ms: 0, outcome: "taken", outcome_ms: 1200 }],
    errors: [],
  };
  change(data);
  return data;
}

/**
 * Has a page hear of `nodes`: `past` seconds at once, and then one more with each `tick(change)`. `refuse` is a code with which that is refused.
 * To be called before the page is opened; what else the page subscribes to is the broker's.
 */
export async function fakeNumbers(page, { nodes = ["k3v9x2mq", "p4aab2zz"], past = 900, change, refuse } = {}) {
  let say = () => { throw new Error("nobody has subscribed yet"); };
  let number = 1000 + past, at = Date.now();
  await page.routeWebSocket(/\/v1\/ws/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage(async (text) => {
      const { op, ref, topics } = JSON.parse(text);
      if (op !== "subscribe" || !topics?.includes("$sys.metrics")) return server.send(text);
      if (refuse) return socket.send(JSON.stringify({ op: "error", ref, code: refuse, message: "this needs an API key with admin = true" }));
      const { cursor } = await (await fetch(socket.url().replace(/^ws/, "http").replace(/v1\/ws.*/, "v1/cursor"))).json();
      const tell = (node, n, moment, changed, rest) => socket.send(JSON.stringify({ op: "event", topic: "$sys.metrics", type: "metrics", time: new Date(moment).toISOString(), data: report(node, n, moment, changed), ...rest }));
      socket.send(JSON.stringify({ op: "ack", ref }));
      for (let back = past - 1; back >= 0; back--) for (const node of nodes) tell(node, number - back, at - back * 1000, (data) => change?.(data, node, back), { snapshot: true });
      socket.send(JSON.stringify({ op: "live", ref, cursor }));
      say = (changed, of) => {
        number += 1;
        at += 1000;
        for (const node of of) tell(node, number, at, (data) => { change?.(data, node, 0); changed?.(data, node); });
      };
    });
  });
  return { tick: (changed, of = nodes) => say(changed, of) };
}
