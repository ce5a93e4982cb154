import type { Conversation } from "./conversation.js";
import { FailureDetector } from "./failureDetector.js";
import { Place } from "./place.js";
import type { ResumeToken } from "./stream.js";
import type { TabMessage } from "./tabMessage.js";
import { Tabs } from "./tabs.js";
import type { Frame } from "./wire.js";

const SETTLE_MS = 150; // for what the others know; only a frozen one takes longer
const ASK_MS = 2_000; // for a lock that is held though nothing is under way
const HELLO_MS = 1_000; // between two requests for the same state

export interface Duties {
  /** Read the answer that is under way on, until it ends or `lost` is aborted. */
  readonly readOn: (lost: AbortSignal) => Promise<void>;
  /** Stop the answer that this tab reads. */
  readonly stop: () => void;
  readonly onFrame: (frame: Frame) => void;
}

/**
 * This tab's part in a conversation that others show as well. The lock alone says who reads: the reader tells its frames,
 * the others follow, each waiting for the lock to read on in its turn. Whoever gets the lock first hears what the others
 * know, since a lock may be faster than the last words of the tab that had it.
 */
export class Shared {
  readonly #conversation: Conversation;
  readonly #duties: Duties;
  readonly #tabs: Tabs;
  #term = 0;
  #isReading = false;
  #place = new Place();
  #asking: AbortController | undefined;
  #waiting: AbortController | undefined;
  #detector: FailureDetector | undefined;
  #stopWanted: string | undefined;
  #greetedAt = 0;
  #answered: ((tab: string) => void) | undefined;

  constructor(name: string, conversation: Conversation, duties: Duties) {
    this.#conversation = conversation;
    this.#duties = duties;
    this.#tabs = new Tabs(name, {
      onMessage: (message) => this.#hear(message),
      onGone: (tab) => this.#answered?.(tab),
    });
    void this.#tabs.opened.then(() => {
      this.#greet();
      this.#follow();
    });
  }

  /** Whether other tabs would read on if this one were closed. */
  get hasOthers(): boolean {
    return this.#tabs.others.size > 0;
  }

  /** Do `work` as the tab that reads. Returns false, having done nothing, where another one was first. */
  async ask(work: (lost: AbortSignal) => Promise<void>): Promise<boolean> {
    if (this.#asking) return false;
    const asking = (this.#asking = new AbortController());
    let isDone = false;
    await this.#tabs.opened;
    const timer = setTimeout(() => asking.abort(), ASK_MS);
    await this.#tabs.read({ signal: asking.signal }, async (lost) => {
      clearTimeout(timer);
      await this.#settle();
      if (lost.aborted || this.#conversation.status !== "ready") return;
      isDone = true;
      this.#asking = undefined;
      await this.#hold(lost, work);
    });
    clearTimeout(timer);
    if (!isDone) this.#asking = undefined;
    return isDone;
  }

  /** Have the tab that reads stop; whoever reads on in its place does so too. */
  askStop(): void {
    this.#stopWanted = this.#conversation.answer?.id;
    if (this.#stopWanted) this.#tabs.tell({ type: "stop", answer: this.#stopWanted });
  }

  tellState(to?: string): void {
    const { state } = this.#conversation;
    this.#tabs.tell({ type: "state", term: this.#term, isReader: this.#isReading, state, ...(to && { to }) });
  }

  tellFrame(frame: Frame, token: ResumeToken): void {
    this.#tabs.tell({ type: "frame", term: this.#term, frame, token });
  }

  tellStatus(): void {
    this.#tabs.tell({ type: "status", term: this.#term, status: this.#conversation.status });
  }

  /** Leave the conversation to the others. What this tab reads, another one reads on. */
  close(): void {
    this.#rest();
    this.#tabs.close();
  }

  #hear(message: TabMessage): void {
    switch (message.type) {
      case "hello":
        return this.tellState(message.from);
      case "ping":
        // A frozen page still hears, but no timer of it comes.
        setTimeout(() => this.#isReading && this.tellStatus());
        return;
      case "stop":
        this.#stopWanted = message.answer;
        return this.#isReading ? this.#stopIfWanted() : undefined;
      case "state":
        if (!message.to || message.to === this.#tabs.id) this.#takeState(message);
        return;
      case "frame":
      case "status":
        if (this.#isReading || message.term < this.#term) return;
        this.#detector?.noteLife();
        if (message.term > this.#term) this.#greet();
        else if (message.type === "frame") this.#takeFrame(message.frame, message.token);
        else this.#conversation.status = message.status;
    }
  }

  #takeState({ from, term, isReader, state }: TabMessage & { type: "state" }): void {
    if (!this.#isReading && (term > this.#term || (term === this.#term && isReader))) {
      this.#term = term;
      this.#place = new Place(state.answer?.token.after);
      this.#greetedAt = 0;
      this.#conversation.adopt(state);
      this.#follow();
    }
    this.#answered?.(from);
  }

  #takeFrame(frame: Frame, token: ResumeToken): void {
    const turn = this.#place.take(token.after, "gap" in frame);
    if (!turn) this.#greet();
    if (turn !== "next") return;
    try {
      this.#conversation.take(frame, token);
    } catch {
      return this.#greet(); // it is no frame that this build knows
    }
    this.#duties.onFrame(frame);
  }

  /** Ask for the state, unless it is on its way. */
  #greet(): void {
    if (Date.now() - this.#greetedAt < HELLO_MS) return;
    this.#greetedAt = Date.now();
    this.#tabs.tell({ type: "hello" });
  }

  /** Follow whoever reads what is under way; rest if nothing is. */
  #follow(): void {
    if (this.#tabs.isClosed || this.#isReading) return;
    if (this.#conversation.status === "ready") return this.#rest();
    this.#asking?.abort();
    this.#detector ??= new FailureDetector(
      () => this.#tabs.tell({ type: "ping" }),
      () => {
        this.#waiting?.abort();
        void this.#takeOver({ steal: true });
      },
    );
    this.#detector.noteLife();
    if (this.#waiting) return;
    const waiting = (this.#waiting = new AbortController());
    void this.#takeOver({ signal: waiting.signal });
  }

  async #takeOver(options: LockOptions): Promise<void> {
    await this.#tabs.read(options, async (lost) => {
      await this.#settle();
      if (lost.aborted || this.#conversation.status === "ready") return;
      await this.#hold(lost, async () => {
        const reading = this.#duties.readOn(lost);
        this.#stopIfWanted();
        await reading;
      });
    });
  }

  async #hold(lost: AbortSignal, work: (lost: AbortSignal) => Promise<void>): Promise<void> {
    this.#rest();
    this.#term = Math.max(this.#term + 1, Date.now()); // of two histories that did not know each other the newer one stays
    this.#isReading = true;
    try {
      await work(lost);
    } finally {
      this.#isReading = false;
      this.#follow();
    }
  }

  async #settle(): Promise<void> {
    const silent = new Set(this.#tabs.others);
    if (!silent.size) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((settled) => {
      timer = setTimeout(settled, SETTLE_MS);
      this.#answered = (tab) => {
        silent.delete(tab);
        if (!silent.size) settled();
      };
      this.#tabs.tell({ type: "hello" });
    });
    clearTimeout(timer);
    this.#answered = undefined;
  }

  #stopIfWanted(): void {
    if (this.#stopWanted && this.#stopWanted === this.#conversation.answer?.id) this.#duties.stop();
  }

  #rest(): void {
    this.#waiting?.abort();
    this.#detector?.end();
    [this.#waiting, this.#detector] = [undefined, undefined];
  }
}
