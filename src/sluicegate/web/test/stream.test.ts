import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { ChatError, Stream, Transcript, type Frame } from "../client/index.js";
import { collect, DONE, encode, RUN, serving } from "./server.js";

const API = "http://service.invalid/api/chat";
const QUICK = { firstDelayMs: 0, maxDelayMs: 0 };
const REQUEST = { messages: [{ role: "user", content: "What is 6 times 7?" }] } as const;
const LENGTH = new TextEncoder().encode(RUN.map((frame, index) => encode(frame, index + 1)).join("") + DONE).length;

const open = (fetch: typeof globalThis.fetch) => new Stream(REQUEST, { apiUrl: API, fetch, resume: QUICK });
const partsOf = (frames: readonly Frame[]) => {
  const transcript = new Transcript();
  frames.forEach((frame) => transcript.take(frame));
  return transcript.parts;
};

function refusal(status: number, code: string, more: Record<string, unknown> = {}): Response {
  return Response.json({ error: { code, message: `${code} it is`, ...more } }, { status });
}

describe("chunk boundaries", () => {
  test("one read, byte by byte, and every two reads give the same frames", async () => {
    const ways = [(bytes: Uint8Array) => Array.from(bytes, (_, at) => bytes.slice(at, at + 1))];
    for (let at = 0; at <= LENGTH; at++) ways.push((bytes) => [bytes.slice(0, at), bytes.slice(at)]);
    for (const pieces of ways) expect(await collect(open(serving(RUN, { pieces }).fetch))).toEqual(RUN);
    expect(ways.length).toBeGreaterThan(900);
  });
});

describe("a connection that breaks", () => {
  test("behind any byte, it is read on: every frame once, in order", async () => {
    let count = 0;
    for (let at = 0; at < LENGTH - DONE.length; at++, count++) {
      const { fetch, asked } = serving(RUN, { cut: (connection) => (connection ? Infinity : at) });
      expect(await collect(open(fetch))).toEqual(RUN);
      expect(asked).toHaveLength(2);
      expect(new Set(asked.map(({ method, path, headers }) => (method === "POST" ? headers["idempotency-key"] : path.split("/")[3]))).size).toBe(1);
    }
    expect(count).toBeGreaterThan(900);
  });

  test("again and again, it is read on as long as something comes each time", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 150, max: 400 }), { minLength: 1, maxLength: 8 }), async (cuts) => {
        const { fetch } = serving(RUN, { cut: (connection) => cuts[connection] ?? Infinity });
        const stream = new Stream(REQUEST, { apiUrl: API, fetch, resume: { ...QUICK, attempts: 1 } });
        expect(await collect(stream)).toEqual(RUN);
      }),
    );
  });

  test("whose server restarted: the connection is lost, which is no success", async () => {
    const refuse = (_: unknown, count: number) => (count ? refusal(404, "INVALID_REQUEST") : undefined);
    const stream = open(serving(RUN, { cut: () => 700, refuse }).fetch);
    await expect(collect(stream)).rejects.toMatchObject({ failure: { code: "CONNECTION_LOST", retryable: true } });
    expect(stream.token.after).not.toBe("");
  });

  test("and does not come back: it is lost after so many attempts", async () => {
    const { fetch, asked } = serving(RUN, { cut: (connection) => (connection ? 0 : 700) });
    const stream = new Stream(REQUEST, { apiUrl: API, fetch, resume: { ...QUICK, attempts: 5 } });
    await expect(collect(stream)).rejects.toMatchObject({ failure: { code: "CONNECTION_LOST" } });
    expect(asked).toHaveLength(6);
  });

  test("that ends without a terminal is one that breaks", async () => {
    const cut = RUN.slice(0, -1);
    const { fetch } = serving(cut, {});
    await expect(collect(open(fetch))).rejects.toBeInstanceOf(ChatError); // `[DONE]` behind no terminal
  });

  test("where the server keeps nothing: asked again without detach, and lost is lost", async () => {
    const refuse = ({ body }: { body: unknown }) =>
      (body as { on_disconnect?: string } | undefined)?.on_disconnect
        ? refusal(403, "UNAUTHORIZED", { field: "on_disconnect" })
        : undefined;
    const { fetch, asked } = serving(RUN, { refuse });
    expect(await collect(open(fetch))).toEqual(RUN);
    expect(asked[0]!.headers["idempotency-key"]).not.toBe(asked[1]!.headers["idempotency-key"]);
    const broken = serving(RUN, { refuse, cut: () => 700 });
    await expect(collect(open(broken.fetch))).rejects.toMatchObject({ failure: { code: "CONNECTION_LOST" } });
    expect(broken.asked).toHaveLength(2);
  });
});

describe("frames that are not the next ones", () => {
  const sending = (frames: [number, Frame][], epoch = "e1") => {
    const text = frames.map(([seq, frame]) => encode(frame, seq).replace("e1", epoch)).join("");
    return { refuse: (_: unknown, count: number) => (count === 1 ? new Response(text) : undefined) };
  };
  const rest = RUN.map((frame, index): [number, Frame] => [index + 1, frame]);
  const cut = (connection: number) => (connection ? Infinity : 700);

  test("come twice: each is taken once", async () => {
    expect(await collect(open(serving(RUN, { cut, ...sending(rest) }).fetch))).toEqual(RUN);
  });

  test.each([
    ["leave one out", sending(rest.slice(12))],
    ["are of another run", sending(rest, "e2")],
    ["have no id", { refuse: (_: unknown, count: number) => (count === 1 ? new Response('data: {"step": 3}\n\n') : undefined) }],
    ["are no JSON", { refuse: (_: unknown, count: number) => (count === 1 ? new Response("id: e1-8\ndata: {\n\n") : undefined) }],
  ])("%s: this is no answer", async (_, broken) => {
    const { fetch, asked } = serving(RUN, { cut, ...broken });
    await expect(collect(open(fetch))).rejects.toMatchObject({ failure: { code: "BAD_ANSWER" } });
    expect(asked).toHaveLength(2);
  });

  test("but a gap makes up for what it leaves out", async () => {
    const gap: Frame = { gap: { after: 7, until: 15, parts: [{ type: "text", text: "All of it" }], step: 2 } };
    const { fetch } = serving(RUN, { cut, ...sending([[15, gap], ...rest.slice(15)]) });
    expect(partsOf(await collect(open(fetch)))).toEqual([{ type: "text", step: 2, text: "All of it.\n\nBye." }]);
  });
});

describe("a refusal", () => {
  test.each([
    [400, "INVALID_REQUEST", { field: "messages[0].content" }],
    [401, "UNAUTHORIZED", {}],
    [402, "BUDGET_EXCEEDED", {}],
    [429, "RATE_LIMITED", { retryable: true, retry_after_ms: 1500 }],
    [503, "OVERLOADED", { retryable: true }],
  ])("with status %i says what the server said, and is not tried again", async (status, code, more) => {
    const { fetch, asked } = serving(RUN, { refuse: () => refusal(status, code, more) });
    const error = await collect(open(fetch)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ failure: { code, status, message: `${code} it is` } });
    expect(asked).toHaveLength(1);
  });

  test("by a proxy's page of HTML is one all the same", async () => {
    const { fetch } = serving(RUN, { refuse: () => new Response("<h1>Bad gateway</h1>", { status: 502 }) });
    await expect(collect(open(fetch))).rejects.toMatchObject({ failure: { code: "UPSTREAM_ERROR", status: 502, retryable: true } });
  });
});

describe("stop", () => {
  test("deletes the run, and its terminal frame is still read", async () => {
    const { fetch, asked } = serving(RUN);
    const stream = open(fetch);
    const frames: Frame[] = [];
    for await (const frame of stream) {
      if (frames.push(frame) === 4) await stream.stop();
    }
    expect(frames).toEqual(RUN);
    expect(asked[1]).toMatchObject({ method: "DELETE", path: `/api/runs/${asked[0]!.headers["idempotency-key"]}` });
  });

  test("before anything came leaves as well", async () => {
    const { fetch, asked } = serving(RUN, { refuse: ({ method }) => (method === "POST" ? (new Promise(() => undefined) as never) : undefined) });
    const waiting = (input: RequestInfo | URL, init?: RequestInit) =>
      Promise.race([fetch(input, init), new Promise<never>((_, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal!.reason)))]);
    const stream = open(waiting as typeof fetch);
    const frames = collect(stream).catch((thrown: unknown) => thrown);
    await new Promise((resolve) => setTimeout(resolve));
    await stream.stop();
    expect(await frames).toMatchObject({ name: "AbortError" });
    expect(asked.map(({ method }) => method)).toEqual(["POST", "DELETE"]);
  });
});

test("a token reads on in another place", async () => {
  const { fetch } = serving(RUN);
  const first = open(fetch);
  const frames: Frame[] = [];
  for await (const frame of first) if (frames.push(frame) === 6) break;
  frames.push(...(await collect(new Stream(first.token, { apiUrl: API, fetch }))));
  expect(frames).toEqual(RUN);
});

test("words that are cut anywhere give the same parts", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1 }), (sizes) => {
      let at = 0;
      const cut = RUN.flatMap((frame): Frame[] => {
        for (const key of ["content", "reasoning"] as const) {
          if (!(key in frame)) continue;
          let text = (frame as unknown as Record<string, string>)[key]!;
          const pieces: Frame[] = [];
          while (text) {
            const size = sizes[at++ % sizes.length]!;
            pieces.push({ [key]: text.slice(0, size) } as unknown as Frame);
            text = text.slice(size);
          }
          return pieces;
        }
        return [frame];
      });
      expect(partsOf(cut)).toEqual(partsOf(RUN));
    }),
  );
});
