import type { Frame } from "../client/index.js";
import type { Tab } from "./origin.js";
import { DONE, encode } from "./server.js";

class Run {
  readonly frames: Frame[] = [];
  #changed: (() => void)[] = [];

  get isOver(): boolean {
    const last = this.frames.at(-1);
    return last !== undefined && ("done" in last || "error" in last);
  }

  push(...frames: Frame[]): void {
    if (this.isOver) return;
    this.frames.push(...frames);
    this.#changed.splice(0).forEach((changed) => changed());
  }

  grown(): Promise<void> {
    return new Promise((resolve) => this.#changed.push(resolve));
  }
}

/** A service whose runs grow when the test says so; any number of readers, each from where it was. */
export class Service {
  readonly runs = new Map<string, Run>();
  readonly asked: { tab: Tab; method: string }[] = [];

  get run(): Run {
    return [...this.runs.values()].at(-1)!;
  }

  count(method: string): number {
    return this.asked.filter((ask) => ask.method === method).length;
  }

  /** The way of one tab to it. */
  readonly fetchOf = (tab: Tab): typeof fetch => {
    const answer = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
      await live(tab);
      init.signal?.throwIfAborted();
      const method = init.method ?? "GET";
      this.asked.push({ tab, method });
      const headers = new Headers(init.headers);
      const key = headers.get("Idempotency-Key") ?? /runs\/([^/]+)/.exec(String(input))![1]!;
      if (method === "POST" && !this.runs.has(key)) this.runs.set(key, new Run());
      const run = this.runs.get(key);
      if (!run) return Response.json({ error: { code: "INVALID_REQUEST", message: "unknown" } }, { status: 404 });
      if (method === "DELETE") {
        run.push({ error: { code: "CANCELLED", message: "stopped" } });
        return new Response(null, { status: 204 });
      }
      return stream(run, Number(headers.get("Last-Event-ID")?.split("-")[1] ?? 0), tab, init.signal);
    };
    return answer as typeof fetch;
  };
}

/** Resolves when the tab can do something. */
const live = (tab: Tab) => new Promise<void>((resolve) => tab.do(resolve));

function stream(run: Run, after: number, tab: Tab, signal: AbortSignal | null | undefined): Response {
  if (run.isOver && after === run.frames.length) return new Response(null, { status: 204 });
  let at = after;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      while (at === run.frames.length && !run.isOver) await run.grown();
      await live(tab);
      if (signal?.aborted) return;
      const frame = run.frames[at];
      if (frame) controller.enqueue(new TextEncoder().encode(encode(frame, ++at)));
      else {
        controller.enqueue(new TextEncoder().encode(DONE));
        controller.close();
      }
    },
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
}
