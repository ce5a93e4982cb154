import type { Frame } from "../client/index.js";
import { inNextFrame } from "../client/ticker.js";

const KEPT = 500;

export interface LoggedFrame {
  readonly number: number;
  /** Milliseconds since the first frame of the run. */
  readonly at: number;
  readonly frame: Frame;
}

/** The newest frames of the run that is shown. Adding one costs the same however many came. */
export class EventLog {
  readonly #listeners = new Set<() => void>();
  readonly #changed = inNextFrame(() => this.#publish());
  #kept: LoggedFrame[] = [];
  #shown: readonly LoggedFrame[] = [];
  #count = 0;
  #began = 0;

  add(frame: Frame): void {
    const now = performance.now();
    if (!this.#count++) this.#began = now;
    this.#kept.push({ number: this.#count, at: now - this.#began, frame });
    if (this.#kept.length > 2 * KEPT) this.#kept = this.#kept.slice(-KEPT);
    this.#changed();
  }

  clear(): void {
    [this.#kept, this.#count] = [[], 0];
    this.#changed();
  }

  readonly snapshot = (): readonly LoggedFrame[] => this.#shown;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    this.#publish();
    return () => void this.#listeners.delete(listener);
  };

  #publish(): void {
    if (!this.#listeners.size) return;
    this.#shown = this.#kept.slice(-KEPT);
    for (const listener of this.#listeners) listener();
  }
}
