/**
 * Browsers open six connections to one HTTP/1.1 origin for all tabs together; the seventh request waits without a word.
 * A stream takes one of these slots first, so that one connection is left to stop, and to everything else.
 */
export const SLOTS = 5;

const isMultiplexed = (origin: string): boolean =>
  performance
    .getEntriesByType("resource")
    .concat(performance.getEntriesByType("navigation"))
    .some((entry) => /^h[23]$/.test((entry as PerformanceResourceTiming).nextHopProtocol) && entry.name.startsWith(`${origin}/`));

/**
 * Take a slot at `origin` and return what gives it back. Waits while other tabs hold all of them, and tells `onQueued`
 * so. Takes none where the browser has no Web Locks, or the origin speaks HTTP/2.
 */
export async function takeSlot(origin: string, signal: AbortSignal, onQueued: () => void): Promise<() => void> {
  if (typeof navigator === "undefined" || !("locks" in navigator) || isMultiplexed(origin)) return () => undefined;
  const names = Array.from({ length: SLOTS }, (_, index) => `sluicegate slot ${index} ${origin}`);
  for (const name of names) {
    const release = await tryLock(name);
    if (release) return release;
  }
  onQueued();
  return firstOf(names, signal);
}

function tryLock(name: string): Promise<(() => void) | undefined> {
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(name, { ifAvailable: true }, (lock) => (lock ? new Promise<void>((release) => resolve(release)) : resolve(undefined)))
      .catch(reject);
  });
}

/** Ask for all, keep the first that is free, and withdraw the other requests. */
function firstOf(names: string[], signal: AbortSignal): Promise<() => void> {
  const withdrawn = new AbortController();
  return new Promise((resolve, reject) => {
    let isTaken = false;
    for (const name of names) {
      navigator.locks
        .request(name, { signal: AbortSignal.any([signal, withdrawn.signal]) }, () => {
          if (isTaken) return undefined;
          isTaken = true;
          withdrawn.abort();
          return new Promise<void>((release) => resolve(release));
        })
        .catch((error: unknown) => withdrawn.signal.aborted || reject(error));
    }
  });
}
