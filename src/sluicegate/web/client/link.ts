import { EventSourceParserStream, type EventSourceMessage } from "eventsource-parser/stream";

import { Lost } from "./errors.js";
import { onWake } from "./outage.js";

/** After so long without a byte, a heartbeat's included, a connection is taken for dead. */
export const SILENT_MS = 45_000;
/** The same when the page comes back from the background: the server's heartbeats are 15 s apart. */
const SUSPECT_MS = 17_000;

/**
 * The events of one connection, as they come in. Throws Lost when it breaks, falls silent or ends, and what `signal`
 * says when that is aborted. `onLife` is told of every read. The response's body is cancelled whichever way it ends.
 */
export async function* eventsOf(
  response: Response,
  signal: AbortSignal,
  onLife: () => void,
): AsyncGenerator<EventSourceMessage, never> {
  if (!response.body) throw new Lost("the answer has no body");
  const watch = new Watch();
  const heard = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(bytes, controller) {
      watch.noteLife();
      onLife();
      controller.enqueue(bytes);
    },
  });
  const given = AbortSignal.any([signal, watch.signal]);
  const events = response.body
    .pipeThrough(heard, { signal: given })
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream());
  const reader = events.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        signal.throwIfAborted();
        throw new Lost(watch.signal.aborted ? "nothing came for too long" : `the connection broke (${String(error)})`);
      });
      if (done) throw new Lost("the connection ended before the answer did");
      yield value;
    }
  } finally {
    watch.end();
    await reader.cancel().catch(() => undefined);
  }
}

class Watch {
  readonly #controller = new AbortController();
  readonly #stopWaking = onWake(() => {
    if (Date.now() - this.#heardAt > SUSPECT_MS) this.#controller.abort();
  });
  #heardAt = Date.now();
  #timer: ReturnType<typeof setTimeout> | undefined = this.#start(SILENT_MS);

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  noteLife(): void {
    this.#heardAt = Date.now();
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#stopWaking();
  }

  // One timer for many reads: it looks when it fires.
  #start(ms: number): ReturnType<typeof setTimeout> {
    return setTimeout(() => {
      const left = SILENT_MS - (Date.now() - this.#heardAt);
      if (left <= 0) this.#controller.abort();
      else this.#timer = this.#start(left);
    }, ms);
  }
}
