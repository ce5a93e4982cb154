import type { Failure } from "./errors.js";
import { textOf, type ChatMessage } from "./message.js";
import { newKey } from "./request.js";
import type { ResumeToken, StreamStatus } from "./stream.js";
import { inNextFrame } from "./ticker.js";
import { Transcript } from "./transcript.js";
import type { Frame } from "./wire.js";

/** `ready`: nothing is under way. The others are those of the stream. */
export type ChatStatus = "ready" | Exclude<StreamStatus, "ended">;

export interface ChatSnapshot {
  readonly messages: readonly ChatMessage[];
  readonly status: ChatStatus;
}

/** All that another tab needs to show a conversation, and to read its answer on. */
export interface ConversationState extends ChatSnapshot {
  readonly answer?: { readonly id: string; readonly step: number; readonly token: ResumeToken };
}

/** Messages and the answer that grows behind them, as a store: listeners are called once a frame of the display at most. */
export class Conversation {
  readonly #listeners = new Set<() => void>();
  readonly #changed = inNextFrame(() => this.#publish());
  #messages: readonly ChatMessage[];
  #status: ChatStatus = "ready";
  #snapshot: ChatSnapshot;
  #answer: { readonly id: string; readonly transcript: Transcript; token: ResumeToken } | undefined;
  #isGrown = false;

  constructor(messages: readonly ChatMessage[]) {
    this.#messages = messages;
    this.#snapshot = { messages, status: "ready" };
  }

  /** The same object until something changes. */
  readonly snapshot = (): ChatSnapshot => this.#snapshot;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  get messages(): readonly ChatMessage[] {
    this.#grow();
    return this.#messages;
  }

  get status(): ChatStatus {
    return this.#status;
  }

  set status(status: ChatStatus) {
    this.#status = status;
    if (status === "ready") this.#publish();
    else this.#changed();
  }

  /** How to read the last answer on; undefined before the first. */
  get token(): ResumeToken | undefined {
    return this.#answer?.token;
  }

  /** The last answer, undefined before the first. */
  get answer(): ChatMessage | undefined {
    return this.messages.find(({ id }) => id === this.#answer?.id);
  }

  get state(): ConversationState {
    const answer = this.#answer && { id: this.#answer.id, step: this.#answer.transcript.step, token: this.#answer.token };
    return { messages: this.messages, status: this.#status, ...(answer && { answer }) };
  }

  /** Go on with `messages`, without an answer. */
  reset(messages: readonly ChatMessage[]): void {
    [this.#messages, this.#answer] = [messages, undefined];
    this.#changed();
  }

  /** An answer to `messages` begins. */
  begin(messages: readonly ChatMessage[], token: ResumeToken): void {
    this.#answer = { id: newKey(), transcript: new Transcript(), token };
    this.#messages = [...messages, { id: this.#answer.id, role: "assistant", content: "", parts: [] }];
    this.status = "connecting";
  }

  /** The answer goes on, whatever ended it. */
  reopen(): void {
    if (this.#answer) this.#answer.transcript.ending = undefined;
    this.#isGrown = true;
    this.status = "connecting";
  }

  /** The next frame of the answer, behind which `token` reads on. */
  take(frame: Frame, token: ResumeToken): void {
    if (!this.#answer) return;
    this.#answer.transcript.take(frame);
    this.#answer.token = token;
    this.#isGrown = true;
    this.#changed();
  }

  /** Nothing more comes: it ended by its last frame, or else by `failure`. */
  end(token: ResumeToken, failure?: Failure): void {
    if (failure) this.#answer?.transcript.fail(failure);
    if (this.#answer) this.#answer.token = token;
    this.#isGrown = true;
    this.status = "ready";
  }

  /** Show what another tab shows. Messages that did not change stay the same objects. */
  adopt({ messages, status, answer }: ConversationState): void {
    const known = new Map(this.messages.map((message) => [message.id, message]));
    this.#messages = messages.map((message) => {
      const own = known.get(message.id);
      return own && isSame(own, message) ? own : message;
    });
    const message = messages.find(({ id }) => id === answer?.id);
    this.#answer = answer && message && { ...answer, transcript: new Transcript(message, answer.step) };
    this.status = this.#answer ? status : "ready";
  }

  /** Resolves when nothing is under way. */
  async untilReady(): Promise<void> {
    if (this.#status === "ready") return;
    await new Promise<void>((ready) => {
      const stop = this.subscribe(() => {
        if (this.#status !== "ready") return;
        stop();
        ready();
      });
    });
  }

  #grow(): void {
    if (!this.#isGrown || !this.#answer) return;
    this.#isGrown = false;
    const { id, transcript } = this.#answer;
    const { parts, ending, model, runId } = transcript;
    const grown = { id, role: "assistant", content: textOf(parts), parts, ...(ending && { ending }), model, runId } as const;
    this.#messages = this.#messages.map((message) => (message.id === id ? grown : message));
  }

  #publish(): void {
    this.#grow();
    this.#snapshot = { messages: this.#messages, status: this.#status };
    for (const listener of [...this.#listeners]) listener();
  }
}

function isSame(one: ChatMessage, other: ChatMessage): boolean {
  return one.content === other.content && one.parts.length === other.parts.length && one.ending?.type === other.ending?.type
    && (one.role === "user" || one.ending !== undefined);
}
