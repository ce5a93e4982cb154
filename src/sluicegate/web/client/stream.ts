import { ChatError, failureOf, Lost, type Code } from "./errors.js";
import { eventsOf } from "./link.js";
import { Outage, RESUME, type Resume } from "./outage.js";
import { Place } from "./place.js";
import { newKey, type ChatRequest } from "./request.js";
import { takeSlot } from "./slots.js";
import type { Frame } from "./wire.js";

/**
 * `queued`: other tabs hold all connections. `connecting`: nothing came back yet. `waiting`: the server took the
 * request. `streaming`: frames come. `reconnecting`: the connection is lost, the run may go on.
 */
export type StreamStatus = "queued" | "connecting" | "waiting" | "streaming" | "reconnecting" | "ended";

export interface StreamOptions {
  /** Where `POST /chat` is; `runs/` is beside it. */
  readonly apiUrl: string;
  /** Sent with every request, such as `Authorization`; called each time, so a token may be a fresh one. */
  readonly headers?: () => Record<string, string>;
  readonly fetch?: typeof fetch;
  readonly resume?: Partial<Resume>;
  readonly onStatus?: (status: StreamStatus) => void;
}

const OPEN_ATTEMPTS = 4; // where the server never answered at all
const STOP_ATTEMPTS = 4;
const STOP_AGAIN_MS = 300;

/** What a stream can be opened with again, in this tab or in another one: `Stream.token`. */
export interface ResumeToken {
  readonly key: string;
  readonly after: string;
  /** Until the first frame has come: it may be that the server never heard of it. */
  readonly request?: ChatRequest;
}

/**
 * One run as it comes in, over as many connections as that takes.
 *
 * Iterate over it once. It ends behind the terminal frame (`done` or `error`), and throws ChatError where that never
 * comes: a missing terminal is never success. A lost connection is opened anew and read on from where it was, each frame
 * once and in order, unless the server does not allow `detach`. `leave` ends the reading, `stop` the run.
 */
export class Stream implements AsyncIterable<Frame> {
  readonly #options: StreamOptions;
  readonly #fetch: typeof fetch;
  readonly #url: URL;
  readonly #request: ChatRequest | undefined;
  readonly #place: Place;
  readonly #outage: Outage;
  readonly #left = new AbortController();
  #key: string;
  #isDetached = true;
  #isTaken: boolean;
  #opened = 0;
  #status: StreamStatus = "connecting";

  /** A new run, or with a token the rest of one that is under way. */
  constructor(request: ChatRequest | ResumeToken, options: StreamOptions) {
    this.#options = options;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#url = new URL(options.apiUrl, globalThis.location?.href);
    this.#outage = new Outage({ ...RESUME, ...options.resume });
    const token = "key" in request ? request : { key: newKey(), after: "", request };
    this.#isTaken = !token.request;
    this.#request = token.request;
    this.#key = token.key;
    this.#place = new Place(token.after);
  }

  get status(): StreamStatus {
    return this.#status;
  }

  get token(): ResumeToken {
    const after = this.#place.id;
    return { key: this.#key, after, ...(!after && this.#request && { request: this.#request }) };
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Frame, void> {
    const release = await takeSlot(this.#url.origin, this.#left.signal, () => this.#tell("queued"));
    try {
      this.#tell("connecting");
      for (;;) {
        try {
          yield* this.#read(await this.#open());
          return;
        } catch (error) {
          await this.#recover(error);
        }
      }
    } finally {
      release();
      this.#tell("ended");
    }
  }

  /**
   * End the run, also while its connection is lost or the page goes away. Its terminal frame is still to be read; where
   * nothing of the run has come, there is none, and this leaves as well. Throws ChatError, code `INVALID_REQUEST` with
   * status 404 where the server knows of no such run.
   */
  async stop(): Promise<void> {
    if (!this.#isTaken) this.leave();
    for (let attempt = 1; ; attempt++) {
      const response = await this.#fetch(this.#at(""), { method: "DELETE", headers: this.#headers(), keepalive: true });
      if (response.ok) break;
      // What was asked for may be on its way still, behind this.
      if (this.#isTaken || response.status !== 404 || attempt === STOP_ATTEMPTS) {
        throw new ChatError(await failureOf(response));
      }
      await new Promise((resolve) => setTimeout(resolve, STOP_AGAIN_MS));
    }
    this.#outage.hurry();
  }

  /** Read no more, at once. The run ends when `grace_seconds` have passed, unless somebody reads on (`token`). */
  leave(): void {
    this.#left.abort();
  }

  async #open(): Promise<Response> {
    const after = this.#place.id;
    const isFirst = this.#request && !after;
    const headers = { ...this.#headers(), ...(after && { "Last-Event-ID": after }) };
    const init: RequestInit = isFirst
      ? {
          method: "POST",
          headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": this.#key },
          body: JSON.stringify({ ...this.#request, stream: true, ...(this.#isDetached && { on_disconnect: "detach" }) }),
        }
      : { headers };
    const url = isFirst ? this.#url.href : this.#at("/events");
    const response = await this.#fetch(url, { ...init, signal: this.#left.signal, cache: "no-store" }).catch((error: unknown) => {
      this.#left.signal.throwIfAborted();
      throw new Lost(`the server cannot be reached (${String(error)})`);
    });
    if (response.status === 204) throw gone("The server says that the answer has ended, but its end never came.");
    if (response.ok) {
      this.#isTaken = true;
      this.#tell("waiting");
      return response;
    }
    const failure = await failureOf(response);
    if (isFirst || ![429, 502, 503, 504].includes(response.status)) {
      throw response.status === 404 && !isFirst ? gone() : new ChatError(failure);
    }
    throw new Lost(failure.message, failure.retryAfterMs);
  }

  async *#read(response: Response): AsyncGenerator<Frame, void> {
    for await (const event of eventsOf(response, this.#left.signal, () => this.#outage.noteLife())) {
      const frame = parse(event.data);
      if (!frame || !event.id) throw badAnswer();
      const turn = this.#place.take(event.id, "gap" in frame);
      if (!turn) throw badAnswer();
      if (turn === "seen") continue;
      this.#outage.noteFrame();
      this.#tell("streaming");
      yield frame;
      if ("done" in frame || "error" in frame) return;
    }
  }

  /** Returns where it is worth another try, throws otherwise. */
  async #recover(error: unknown): Promise<void> {
    if (error instanceof ChatError && error.failure.field === "on_disconnect" && this.#isDetached) {
      this.#isDetached = false;
      this.#key = newKey();
      return;
    }
    if (!(error instanceof Lost)) throw error;
    if (!this.#isDetached) throw lost("The connection broke off, and this server does not keep answers.");
    if (!this.#isTaken && ++this.#opened === OPEN_ATTEMPTS) throw lost("The server cannot be reached.");
    this.#tell("reconnecting");
    if (!(await this.#outage.wait(error, this.#left.signal))) throw lost("The connection is lost and did not come back.");
  }

  #at(path: string): string {
    return new URL(`runs/${this.#key}${path}`, this.#url).href;
  }

  #headers(): Record<string, string> {
    return this.#options.headers?.() ?? {};
  }

  #tell(status: StreamStatus): void {
    if (this.#status === status) return;
    this.#status = status;
    this.#options.onStatus?.(status);
  }
}

function parse(data: string): Frame | undefined {
  try {
    const frame: unknown = JSON.parse(data);
    return typeof frame === "object" && frame !== null && !Array.isArray(frame) ? (frame as Frame) : undefined;
  } catch {
    return undefined; // `[DONE]` without a terminal before it is no frame either
  }
}

const failed = (code: Code, message: string) => new ChatError({ code, message, retryable: true });
const lost = (message: string) => failed("CONNECTION_LOST", message);
const gone = (message = "The server does not know this answer any more.") => lost(message);
const badAnswer = () => failed("BAD_ANSWER", "What came is not an answer of sluicegate.");
