import { Conversation, type ChatSnapshot } from "./conversation.js";
import { ChatError, type Failure } from "./errors.js";
import { toRequest, type ChatMessage } from "./message.js";
import { newKey, type ChatRequest, type RequestPart } from "./request.js";
import { Shared } from "./shared.js";
import { Stream, type StreamOptions } from "./stream.js";
import { canShare } from "./tabs.js";
import type { Frame } from "./wire.js";

export interface ChatOptions extends Omit<StreamOptions, "onStatus"> {
  /** What each request has besides its messages. */
  readonly request?: () => Omit<ChatRequest, "messages">;
  readonly onFrame?: (frame: Frame) => void;
  /** An answer failed. Of several tabs the one that reads it is told. */
  readonly onError?: (failure: Failure, message: ChatMessage) => void;
  /** An answer is complete. Of several tabs the one that reads it is told. */
  readonly onComplete?: (message: ChatMessage) => void;
  /**
   * Chats of one origin that have the same name here, and have joined, show the same conversation; one of them reads. It
   * stays as it was given first. Without Web Locks and BroadcastChannel it does nothing.
   */
  readonly shared?: string;
}

/**
 * A conversation and the answer that is under way, for any view: `subscribe` and `snapshot` are what React's
 * `useSyncExternalStore` asks for. Listeners are called once a frame of the display at most, however fast words come.
 */
export class Chat {
  readonly #conversation: Conversation;
  #options: ChatOptions;
  #stream: Stream | undefined;
  #shared: Shared | undefined;

  /** The same object until something changes. */
  readonly snapshot: () => ChatSnapshot;
  readonly subscribe: (listener: () => void) => () => void;

  constructor(options: ChatOptions, messages: readonly ChatMessage[] = []) {
    this.#options = options;
    this.#conversation = new Conversation(messages);
    this.snapshot = this.#conversation.snapshot;
    this.subscribe = this.#conversation.subscribe;
  }

  get shared(): string | undefined {
    return this.#options.shared;
  }

  /** The options of what is asked from now on. */
  configure(options: ChatOptions): void {
    this.#options = { ...options, shared: this.#options.shared };
  }

  /**
   * Take part in the conversation that is shared, until what this returns is called. Then, as when the page is closed,
   * other tabs read on what is under way; the last one stops it, and so does a chat that is not shared.
   */
  join(): () => void {
    const { shared, apiUrl } = this.#options;
    if (shared === undefined || !canShare()) return () => void this.abort();
    const url = new URL(apiUrl, globalThis.location?.href);
    const joined = new Shared(`${url.origin}${url.pathname} ${shared}`, this.#conversation, {
      readOn: (lost) => this.#readOn(lost),
      stop: () => void this.abort(),
      onFrame: (frame) => this.#options.onFrame?.(frame),
    });
    this.#shared = joined;
    const stopLeaving = onLeave(() => this.#leave());
    return () => {
      stopLeaving();
      this.#leave();
      joined.close();
      if (this.#shared === joined) this.#shared = undefined;
    };
  }

  /**
   * Ask. Resolves when the answer has ended, in whatever way; to false, at once and having done nothing, while one is
   * under way, or where another tab asked first.
   */
  async send(text: string, attachments?: readonly RequestPart[]): Promise<boolean> {
    const message = { id: newKey(), role: "user", content: text, parts: [], ...(attachments && { attachments }) } as const;
    return this.#ask(() => [...this.#conversation.messages, message]);
  }

  /** Ask the last question once more, in place of its answer. Resolves as `send` does. */
  async retry(): Promise<boolean> {
    return this.#ask((messages) => {
      const last = messages.findLastIndex((message) => message.role === "user");
      return last < 0 ? undefined : messages.slice(0, last + 1);
    });
  }

  /** Read on an answer whose connection was lost. Fails again if the server does not know it any more. */
  async resume(): Promise<boolean> {
    return this.#asReader(async (lost) => {
      if (!this.#conversation.token) return;
      this.#conversation.reopen();
      await this.#readOn(lost);
    });
  }

  /** Stop the answer that is under way, at the provider as well, whichever tab reads it. What has come stays. */
  async abort(): Promise<void> {
    const stream = this.#stream;
    if (!stream) {
      this.#shared?.askStop();
      if (this.#shared) await this.#conversation.untilReady();
      return;
    }
    await stream.stop().catch(() => stream.leave()); // the connection may be lost: the run ends with its grace
    const timer = setTimeout(() => stream.leave(), STOP_MS);
    await this.#conversation.untilReady();
    clearTimeout(timer);
  }

  /** Forget the conversation, or go on with `messages`. What is under way is stopped. */
  async clear(messages: readonly ChatMessage[] = []): Promise<void> {
    await this.abort();
    await this.#asReader(async () => {
      this.#conversation.reset(messages);
      this.#shared?.tellState();
    });
  }

  async #asReader(work: (lost?: AbortSignal) => Promise<void>): Promise<boolean> {
    if (this.#conversation.status !== "ready") return false;
    if (this.#shared) return this.#shared.ask(work);
    await work();
    return true;
  }

  async #ask(asked: (messages: readonly ChatMessage[]) => readonly ChatMessage[] | undefined): Promise<boolean> {
    return this.#asReader(async (lost) => {
      const messages = asked(this.#conversation.messages);
      if (!messages) return;
      const stream = new Stream({ ...this.#options.request?.(), messages: toRequest(messages) }, this.#streamOptions());
      this.#conversation.begin(messages, stream.token);
      await this.#read(stream, lost);
    });
  }

  async #readOn(lost: AbortSignal | undefined): Promise<void> {
    await this.#read(new Stream(this.#conversation.token!, this.#streamOptions()), lost);
  }

  #streamOptions(): StreamOptions {
    const { apiUrl, headers, fetch, resume } = this.#options;
    return {
      apiUrl,
      ...(headers && { headers }),
      ...(fetch && { fetch }),
      ...(resume && { resume }),
      onStatus: (status) => {
        if (status === "ended") return;
        this.#conversation.status = status;
        this.#shared?.tellStatus();
      },
    };
  }

  /** Ends when the answer does. When the reading is lost to another tab it ends as well, and the answer does not. */
  async #read(stream: Stream, lost: AbortSignal | undefined): Promise<void> {
    let failure: Failure | undefined;
    this.#stream = stream;
    lost?.addEventListener("abort", () => stream.leave());
    const stopLeaving = this.#shared ? undefined : onLeave(() => this.#leave());
    this.#shared?.tellState();
    try {
      for await (const frame of stream) {
        this.#conversation.take(frame, stream.token);
        this.#shared?.tellFrame(frame, stream.token);
        this.#options.onFrame?.(frame);
      }
    } catch (error) {
      failure = error instanceof ChatError ? error.failure : stopped(error);
    }
    stopLeaving?.();
    this.#stream = undefined;
    if (lost?.aborted) return;
    this.#conversation.end(stream.token, failure);
    this.#shared?.tellState();
    this.#tell();
  }

  #tell(): void {
    const message = this.#conversation.answer;
    if (!message?.ending) return;
    if (message.ending.type === "done") this.#options.onComplete?.(message);
    else if (message.ending.failure.code !== "CANCELLED") this.#options.onError?.(message.ending.failure, message);
  }

  /** The last one to leave an answer stops it. */
  #leave(): void {
    const { status, token } = this.#conversation;
    if (status === "ready" || !token || this.#shared?.hasOthers) return;
    const stream = this.#stream ?? new Stream(token, this.#streamOptions());
    void stream.stop().catch(() => undefined);
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
