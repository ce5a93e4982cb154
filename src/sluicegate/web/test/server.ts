import type { Frame } from "../client/index.js";

export const RUN: Frame[] = [
  { run: { id: "r1", model: "m" } },
  { step: 1 },
  { reasoning: "Let me " },
  { reasoning: "see…" },
  { content: "It is 6×7: " },
  { tool_call: { id: "c1", name: "multiply" } },
  { tool_call: { id: "c1", delta: '{"a": 6,' } },
  { tool_call: { id: "c1", delta: ' "b": 7}' } },
  { tool_call: { id: "c1", name: "multiply", arguments: { a: 6, b: 7 } } },
  { tool_calls: ["multiply"] },
  { activity: "Multiplying 6 by 7", call_id: "c1" },
  { tool_progress: { id: "c1", name: "multiply", data: { done: 0.5 } } },
  { tool_result: { id: "c1", name: "multiply", content: "42" } },
  { step: 2 },
  { content: "The answer is **42** 🎉" },
  { content: ".\n\nBye." },
  { done: true, finish_reason: "stop", usage: { input_tokens: 9, output_tokens: 20 } },
];

export const encode = (frame: Frame, seq: number): string => `id: e1-${seq}\ndata: ${JSON.stringify(frame)}\n\n`;
export const DONE = "data: [DONE]\n\n";

export interface Ask {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: unknown;
}

/**
 * A `fetch` whose server sends `frames`; `cut` tells, for each connection, behind which byte of what it has to send it
 * breaks off, and `pieces` how the bytes come. A connection with a cursor gets what is behind that frame.
 */
export function serving(
  frames: readonly Frame[],
  { cut = () => Infinity, pieces = (bytes) => [bytes], refuse = () => undefined }: Serving = {},
): { fetch: typeof fetch; asked: Ask[] } {
  const asked: Ask[] = [];
  const serve = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    init.signal?.throwIfAborted();
    const headers = Object.fromEntries(new Headers(init.headers));
    const body: unknown = typeof init.body === "string" ? JSON.parse(init.body) : undefined;
    const ask = { method: init.method ?? "GET", path: new URL(String(input)).pathname, headers, body };
    const count = asked.push(ask) - 1;
    const refused = refuse(ask, count);
    if (refused) return refused;
    if (ask.method === "DELETE") return new Response(null, { status: 204 });
    const after = Number(headers["last-event-id"]?.split("-")[1] ?? 0);
    if (after === frames.length) return new Response(null, { status: 204 });
    const text = frames.map((frame, index) => encode(frame, index + 1)).slice(after).join("") + DONE;
    const bytes = new TextEncoder().encode(text);
    const at = cut(count, bytes.length);
    const waiting = pieces(bytes.slice(0, at));
    return new Response(
      new ReadableStream({
        pull(controller) {
          const piece = waiting.shift();
          if (piece) controller.enqueue(piece);
          else if (at < bytes.length) controller.error(new TypeError("network error"));
          else controller.close();
        },
      }),
      { headers: { "Content-Type": "text/event-stream", "Run-Id": "r1" } },
    );
  };
  return { fetch: serve as typeof fetch, asked };
}

interface Serving {
  cut?: (connection: number, length: number) => number;
  pieces?: (bytes: Uint8Array) => Uint8Array[];
  refuse?: (ask: Ask, count: number) => Response | undefined;
}

export async function collect(stream: AsyncIterable<Frame>): Promise<Frame[]> {
  const found: Frame[] = [];
  for await (const frame of stream) found.push(frame);
  return found;
}
