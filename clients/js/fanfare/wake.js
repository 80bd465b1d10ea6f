// What a page or a machine tells of itself that a connection should know: that it slept, is shown, or has a network again.

const TICK_MS = 5_000;

/**
 * Calls `wake` when what was thought of a connection may be long past, and `hide` before the page goes (perhaps into the
 * back/forward cache, which takes none with open connections). Returns an undo.
 */
export function watch(wake, hide) {
  const undo = new AbortController();
  const on = (target, name, heard) => target?.addEventListener?.(name, heard, { signal: undo.signal });
  const { document } = globalThis;
  // Read when it happens: what was kept of it before a freeze would be wrong.
  on(document, "visibilitychange", () => isHidden() || wake());
  on(document, "resume", wake);
  for (const name of ["focus", "online", "offline", "pageshow"]) on(globalThis, name, wake);
  on(globalThis, "pagehide", hide);
  let last = Date.now();
  const timer = setInterval(() => {
    const late = Date.now() - last - TICK_MS;
    last = Date.now();
    if (late > TICK_MS) wake();
  }, TICK_MS);
  timer.unref?.();
  return () => { undo.abort(); clearInterval(timer); };
}

/** Whether this is a page that nobody sees. */
export function isHidden() {
  return globalThis.document?.visibilityState === "hidden";
}
