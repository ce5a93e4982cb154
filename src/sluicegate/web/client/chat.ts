import { ChatError, type Failure } from "./errors.js";
import { textOf, toRequest, type ChatMessage } from "./message.js";
import { newKey, type ChatRequest, type RequestPart } from "./request.js";
import { Stream, type ResumeToken, type StreamOptions, type StreamStatus } from "./stream.js";
import { Transcript } from "./transcript.js";
import { inNextFrame } from "./ticker.js";
import type { Frame } from "./wire.js";

/** `ready`: nothing is under way. The others are those of the stream. */
export type ChatStatus = "ready" | Exclude<StreamStatus, "ended">;

export interface ChatSnapshot {
  readonly messages: readonly ChatMessage[];
  readonly status: ChatStatus;
}

export interface ChatOptions extends Omit<StreamOptions, "onStatus"> {
  /** What each request has besides its messages. */
  readonly request?: () => Omit<ChatRequest, "messages">;
  readonly onFrame?: (frame: Frame) => void;
  readonly onError?: (failure: Failure, message: ChatMessage) => void;
  /** An answer is complete. */
  readonly onComplete?: (message: ChatMessage) => void;
}

/**
 * A conversation and the answer that is under way, for any view: `subscribe` and `snapshot` are what React's
 * `useSyncExternalStore` asks for. Listeners are called once a frame of the display at most, however fast words come.
 */
export class Chat {
  readonly #listeners = new Set<() => void>();
  readonly #changed = inNextFrame(() => this.#publish());
  #options: ChatOptions;
  #messages: readonly ChatMessage[];
  #status: ChatStatus = "ready";
  #snapshot: ChatSnapshot;
  #stream: Stream | undefined;
  #token: ResumeToken | undefined;
  #answer: { readonly id: string; readonly transcript: Transcript } | undefined;
  #isGrown = false;

  constructor(options: ChatOptions, messages: readonly ChatMessage[] = []) {
    this.#options = options;
    this.#messages = messages;
    this.#snapshot = { messages, status: "ready" };
  }

  /** The same object until something changes. */
  readonly snapshot = (): ChatSnapshot => this.#snapshot;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /** The options of what is asked from now on. */
  configure(options: ChatOptions): void {
    this.#options = options;
  }

  /** Ask. Resolves when the answer has ended, in whatever way; does nothing while one is under way. */
  async send(text: string, attachments?: readonly RequestPart[]): Promise<void> {
    if (this.#stream) return;
    const message = { id: newKey(), role: "user", content: text, parts: [], ...(attachments && { attachments }) } as const;
    this.#messages = [...this.#messages, message];
    await this.#ask();
  }

  /** Ask the last question once more, in place of its answer. */
  async retry(): Promise<void> {
    const last = this.#messages.findLastIndex((message) => message.role === "user");
    if (this.#stream || last < 0) return;
    this.#messages = this.#messages.slice(0, last + 1);
    await this.#ask();
  }

  /** Read on an answer whose connection was lost. Fails again if the server does not know it any more. */
  async resume(): Promise<void> {
    if (this.#stream || !this.#token || !this.#answer) return;
    this.#answer.transcript.ending = undefined;
    await this.#read(new Stream(this.#token, this.#streamOptions()), this.#answer.transcript);
  }

  /** Stop the answer that is under way, at the provider as well. What has come stays. */
  async abort(): Promise<void> {
    const stream = this.#stream;
    if (!stream) return;
    await stream.stop().catch(() => stream.leave()); // the connection may be lost: the run ends with its grace
    const timer = setTimeout(() => stream.leave(), STOP_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  /** Forget the conversation, or go on with `messages`. What is under way is stopped. */
  async clear(messages: readonly ChatMessage[] = []): Promise<void> {
    await this.abort();
    [this.#messages, this.#answer, this.#token] = [messages, undefined, undefined];
    this.#changed();
  }

  #ended: Promise<void> = Promise.resolve();

  async #ask(): Promise<void> {
    const request = { ...this.#options.request?.(), messages: toRequest(this.#messages) };
    const transcript = new Transcript();
    this.#answer = { id: newKey(), transcript };
    this.#messages = [...this.#messages, { id: this.#answer.id, role: "assistant", content: "", parts: [] }];
    await this.#read(new Stream(request, this.#streamOptions()), transcript);
  }

  #streamOptions(): StreamOptions {
    const { apiUrl, headers, fetch, resume } = this.#options;
    return {
      apiUrl,
      ...(headers && { headers }),
      ...(fetch && { fetch }),
      ...(resume && { resume }),
      onStatus: (status) => {
        if (status !== "ended") this.#status = status;
        this.#changed();
      },
    };
  }

  async #read(stream: Stream, transcript: Transcript): Promise<void> {
    let end = (): void => undefined;
    this.#ended = new Promise((resolve) => (end = resolve));
    this.#stream = stream;
    this.#status = stream.status === "ended" ? "ready" : stream.status;
    this.#changed();
    const stopLeaving = onLeave(() => void stream.stop().catch(() => undefined));
    try {
      for await (const frame of stream) {
        transcript.take(frame);
        this.#options.onFrame?.(frame);
        this.#isGrown = true;
        this.#changed();
      }
    } catch (error) {
      transcript.fail(error instanceof ChatError ? error.failure : stopped(error));
    } finally {
      stopLeaving();
      this.#token = stream.token;
      this.#stream = undefined;
      this.#status = "ready";
      this.#isGrown = true;
      this.#publish();
      this.#tell();
      end();
    }
  }

  #tell(): void {
    const message = this.#messages.find(({ id }) => id === this.#answer?.id);
    if (!message?.ending) return;
    if (message.ending.type === "done") this.#options.onComplete?.(message);
    else if (message.ending.failure.code !== "CANCELLED") this.#options.onError?.(message.ending.failure, message);
  }

  #publish(): void {
    if (this.#isGrown && this.#answer) {
      this.#isGrown = false;
      const { id, transcript } = this.#answer;
      const { parts, ending, model, runId } = transcript;
      const grown = { id, role: "assistant", content: textOf(parts), parts, ...(ending && { ending }), model, runId } as const;
      this.#messages = this.#messages.map((message) => (message.id === id ? grown : message));
    }
    this.#snapshot = { messages: this.#messages, status: this.#status };
    for (const listener of [...this.#listeners]) listener();
  }
}

const STOP_MS = 3_000; // for the terminal frame of a run that was stopped

function stopped(error: unknown): Failure {
  if (error instanceof DOMException && error.name === "AbortError") {
    return { code: "CANCELLED", message: "The answer was stopped.", retryable: true };
  }
  return { code: "INTERNAL", message: `Something went wrong in the page (${String(error)}).`, retryable: true };
}

/** Call `left` when the page goes away for good, not when it may come back from the browser's cache. */
function onLeave(left: () => void): () => void {
  if (typeof window === "undefined") return () => undefined;
  const listener = (event: PageTransitionEvent) => event.persisted || left();
  window.addEventListener("pagehide", listener);
  return () => window.removeEventListener("pagehide", listener);
}
