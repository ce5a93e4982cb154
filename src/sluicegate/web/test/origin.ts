import { vi } from "vitest";

interface Wanted {
  readonly tab: Tab;
  readonly isShared: boolean;
  readonly grant: () => void;
  readonly steal: () => void;
}

/** One origin of a browser: the locks and channels that its tabs share, and what happens to the tabs. */
export class Origin {
  readonly tabs: Tab[] = [];
  readonly held = new Map<string, Wanted[]>();
  readonly waiting = new Map<string, Wanted[]>();
  readonly channels = new Set<MemoryChannel>();
  /** Whether what is said comes later than a lock that is given up behind it. */
  isLagging = false;

  open(): Tab {
    const tab = new Tab(this);
    this.tabs.push(tab);
    return tab;
  }

  grantNext(name: string): void {
    const [held, waiting] = [this.held.get(name) ?? [], this.waiting.get(name) ?? []];
    while (waiting[0] && (!held.length || (waiting[0].isShared && held.every(({ isShared }) => isShared)))) {
      const next = waiting.shift()!;
      held.push(next);
      this.held.set(name, held);
      next.grant();
    }
  }

  drop(isGone: (wanted: Wanted) => boolean): void {
    for (const queues of [this.held, this.waiting]) {
      for (const [name, queue] of queues) queues.set(name, queue.filter((wanted) => !isGone(wanted)));
    }
    for (const name of this.waiting.keys()) this.grantNext(name);
  }
}

let current: Tab | undefined;

/** Have the timers that a tab starts be that tab's; to be called behind `vi.useFakeTimers`. */
export function splitTimers(): void {
  const start = globalThis.setTimeout;
  globalThis.setTimeout = ((work: () => void, ms?: number) => {
    const tab = current;
    return start(tab ? () => tab.do(work) : work, ms);
  }) as typeof setTimeout;
}

/** What becomes of messages and locks while a page is frozen. Chromium's `hears` them, and does nothing else. */
export type Freeze = "hears" | "defers" | "misses";

/** What happens in a tab happens later, while it is frozen when it thaws, and when it is dead never. */
export class Tab {
  #isDead = false;
  #freeze: Freeze = "defers";
  #held: (() => void)[] | undefined;

  constructor(readonly origin: Origin) {}

  do(work: () => void, kind: "own" | "lock" | "message" = "own"): void {
    queueMicrotask(() => {
      if (this.#isDead || (this.#held && this.#freeze === "misses" && kind === "message")) return;
      if (this.#held && (this.#freeze !== "hears" || kind === "own")) this.#held.push(() => this.do(work, kind));
      else {
        current = this;
        work();
        current = undefined;
      }
    });
  }

  /** The globals of this tab, while `work` makes something that keeps them. */
  within<Made>(work: () => Made): Made {
    const tab = this;
    vi.stubGlobal("navigator", { locks: { request: (...given: unknown[]) => request(tab, given) } });
    vi.stubGlobal("BroadcastChannel", class extends MemoryChannel {
      constructor(name: string) {
        super(tab, name);
      }
    });
    try {
      return work();
    } finally {
      vi.unstubAllGlobals();
    }
  }

  crash(): void {
    this.#isDead = true;
    for (const channel of this.origin.channels) if (channel.tab === this) channel.close();
    this.origin.drop((wanted) => wanted.tab === this);
  }

  freeze(how: Freeze): void {
    this.#held = [];
    this.#freeze = how;
  }

  thaw(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    held.forEach((work) => work());
  }
}

class MemoryChannel {
  onmessage: ((event: { data: unknown }) => void) | undefined;

  constructor(
    readonly tab: Tab,
    readonly name: string,
  ) {
    tab.origin.channels.add(this);
  }

  postMessage(message: unknown): void {
    for (const other of this.tab.origin.channels) {
      const data = structuredClone(message);
      if (other === this || other.name !== this.name) continue;
      const deliver = () => other.tab.do(() => other.onmessage?.({ data }), "message");
      if (this.tab.origin.isLagging) setImmediate(deliver);
      else deliver();
    }
  }

  close(): void {
    this.onmessage = undefined;
    this.tab.origin.channels.delete(this);
  }
}

function request(tab: Tab, given: unknown[]): Promise<unknown> {
  const [name, options, callback] = given as [string, LockOptions, () => unknown];
  const { origin } = tab;
  return new Promise((resolve, reject) => {
    options.signal?.throwIfAborted();
    const stolen = () => reject(new DOMException("stolen", "AbortError"));
    const release = () => origin.drop((one) => one === wanted);
    let isGranted = false;
    const wanted: Wanted = {
      tab,
      isShared: options.mode === "shared",
      grant: () => {
        isGranted = true;
        tab.do(() => void Promise.resolve().then(callback).then(resolve, reject).finally(release), "lock");
      },
      steal: () => tab.do(stolen, "lock"),
    };
    options.signal?.addEventListener("abort", () => {
      if (isGranted) return;
      release();
      reject(options.signal!.reason);
    });
    if (options.steal) {
      origin.held.get(name)?.forEach((held) => held.steal());
      origin.held.set(name, []);
    }
    const queue = origin.waiting.get(name) ?? [];
    origin.waiting.set(name, options.steal ? [wanted, ...queue] : [...queue, wanted]);
    origin.grantNext(name);
  });
}
