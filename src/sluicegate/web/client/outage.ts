import type { Lost } from "./errors.js";

/**
 * How to come back to a run whose connection was lost. `attempts` counts those in a row that brought nothing new;
 * `ms` runs from the loss of the last connection that brought anything. Attempt n comes after at most
 * `firstDelayMs` * 2^(n-1), never more than `maxDelayMs`; the jitter chooses.
 */
export interface Resume {
  readonly attempts: number;
  readonly ms: number;
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
}

export const RESUME: Resume = { attempts: 12, ms: 120_000, firstDelayMs: 250, maxDelayMs: 10_000 };

/** What tells that now is a good moment: the page is shown again, or the network is back. */
const WAKING = ["pageshow", "online", "visibilitychange"] as const;

/** Call `wake` whenever the page comes back; returns what ends that. */
export function onWake(wake: () => void): () => void {
  if (typeof document === "undefined") return () => undefined;
  const listener = () => document.visibilityState === "visible" && wake();
  const target = (name: string) => (name === "visibilitychange" ? document : window);
  for (const name of WAKING) target(name).addEventListener(name, listener);
  return () => {
    for (const name of WAKING) target(name).removeEventListener(name, listener);
  };
}

/** The attempts of one stream since its last new frame. */
export class Outage {
  #attempts = 0;
  #isAlive = true;
  #deadline = Infinity;
  #hurry: (() => void) | undefined;

  constructor(
    private readonly options: Resume,
    private readonly random: () => number = Math.random,
  ) {}

  /** The service sent something, if only a heartbeat. */
  noteLife(): void {
    this.#isAlive = true;
  }

  /** A new frame came: the next outage starts from nothing. */
  noteFrame(): void {
    this.#isAlive = true;
    this.#attempts = 0;
  }

  /** Make the next attempt now. */
  hurry(): void {
    this.#hurry?.();
  }

  /** Wait until the next attempt is due. Returns false at once if none is left. Rejects as `signal` says. */
  async wait(lost: Lost, signal: AbortSignal): Promise<boolean> {
    const { attempts, ms, firstDelayMs, maxDelayMs } = this.options;
    if (this.#isAlive) {
      this.#isAlive = false;
      this.#deadline = Date.now() + ms;
    }
    if (this.#attempts >= attempts) return false;
    const longest = Math.min(maxDelayMs, firstDelayMs * 2 ** this.#attempts++);
    const delay = Math.max(lost.retryAfterMs, this.random() * longest);
    if (Date.now() + delay >= this.#deadline) return false;
    await this.#sleep(delay, signal);
    return true;
  }

  #sleep(delay: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const end = (settle: () => void) => {
        clearTimeout(timer);
        stopWaking();
        signal.removeEventListener("abort", aborted);
        this.#hurry = undefined;
        settle();
      };
      const aborted = () => end(() => reject(signal.reason));
      const timer = setTimeout(() => end(resolve), delay);
      const stopWaking = onWake(() => end(resolve));
      this.#hurry = () => end(resolve);
      signal.addEventListener("abort", aborted);
    });
  }
}
