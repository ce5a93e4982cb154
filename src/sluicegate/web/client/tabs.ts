import { newKey } from "./request.js";
import { check, VERSION, type TabMessage } from "./tabMessage.js";

type Told = TabMessage extends infer Message ? (Message extends TabMessage ? Omit<Message, "from"> : never) : never;

export interface TabsOptions {
  readonly onMessage: (message: TabMessage) => void;
  /** A tab was closed, or crashed. */
  readonly onGone: (tab: string) => void;
}

/** Whether this browser has what tabs need to share anything: Web Locks (secure pages only) and BroadcastChannel. */
export const canShare = (): boolean =>
  typeof navigator !== "undefined" && "locks" in navigator && typeof BroadcastChannel !== "undefined";

/**
 * The tabs of one origin that are open under one name: what they tell each other, which of them there are, and the lock
 * of the one that reads. Every tab holds a lock of its own; whoever knows the tab waits for that, which is granted when
 * the tab is gone, whatever way it went.
 */
export class Tabs {
  readonly id = newKey();
  /** Resolves when the others may know of this tab. */
  readonly opened: Promise<void>;
  readonly #name: string;
  readonly #options: TabsOptions;
  readonly #locks = navigator.locks;
  readonly #channel: BroadcastChannel;
  readonly #others = new Set<string>();
  readonly #closed = new AbortController();

  constructor(name: string, options: TabsOptions) {
    this.#name = `sluicegate tabs ${VERSION} ${name}`;
    this.#options = options;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#hear(check(data));
    this.opened = new Promise((opened) => {
      const closed = new Promise<void>((resolve) => this.#closed.signal.addEventListener("abort", () => resolve()));
      const live = () => {
        opened();
        return closed;
      };
      this.#locks.request(this.#lockOf(this.id), { signal: this.#closed.signal }, live).catch(opened);
    });
  }

  /** The tabs that are known to be open besides this one. A frozen one is open. */
  get others(): ReadonlySet<string> {
    return this.#others;
  }

  get isClosed(): boolean {
    return this.#closed.signal.aborted;
  }

  /** Tell every other tab. */
  tell(message: Told): void {
    if (!this.isClosed) this.#channel.postMessage({ ...message, from: this.id });
  }

  /**
   * Hold the reader's lock while `work` goes on. `lost` is aborted when another tab has taken the lock, and when this one
   * is closed. Returns false, and never began, if the request was withdrawn before.
   */
  async read(options: LockOptions, work: (lost: AbortSignal) => Promise<void>): Promise<boolean> {
    const stolen = new AbortController();
    const lost = AbortSignal.any([stolen.signal, this.#closed.signal]);
    let reading: Promise<void> | undefined;
    try {
      await this.#locks.request(this.#lockOf("reader"), options, () => (reading = work(lost)));
    } catch {
      stolen.abort();
      await reading;
    }
    return reading !== undefined;
  }

  /** Leave the others. What this tab reads is lost to it. */
  close(): void {
    this.#closed.abort();
    this.#channel.close();
  }

  #lockOf(what: string): string {
    return `${this.#name} ${what}`;
  }

  #hear(message: TabMessage | undefined): void {
    if (!message || this.isClosed) return;
    this.#meet(message.from);
    this.#options.onMessage(message);
  }

  #meet(tab: string): void {
    if (this.#others.has(tab)) return;
    this.#others.add(tab);
    const gone = () => {
      this.#others.delete(tab);
      this.#options.onGone(tab);
    };
    this.#locks.request(this.#lockOf(tab), { mode: "shared", signal: this.#closed.signal }, gone).catch(() => undefined);
  }
}
