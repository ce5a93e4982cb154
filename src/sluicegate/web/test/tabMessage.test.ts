import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Chat, toRequest, Transcript } from "../client/index.js";
import { check, VERSION } from "../client/tabMessage.js";
import { Origin } from "./origin.js";
import { RUN } from "./server.js";

const transcript = new Transcript();
RUN.forEach((frame) => transcript.take(frame));
const { parts, ending, model, runId } = transcript;
const MESSAGES = [
  { id: "m1", role: "user", content: "What?", parts: [], attachments: [{ type: "text", text: "this" }] },
  { id: "m2", role: "assistant", content: "It is", parts, ending, model, runId },
  {
    id: "m3",
    role: "assistant",
    content: "",
    parts: [
      { type: "citation", step: 1, citation: null },
      { type: "provider_tool", step: 1, name: "search" },
    ],
    ending: { type: "error", failure: { code: "OVERLOADED", message: "busy", retryable: true } },
  },
];
const TOKEN = { key: "k", after: "", request: { messages: [{ role: "user", content: "What?" }] } };
const STATE = { messages: MESSAGES, status: "streaming", answer: { id: "m3", step: 1, token: TOKEN } };
const GAP = { gap: { after: 1, until: 2, parts: [{ type: "text", text: "It" }, { type: "tool_call", id: "c" }] } };
const VALID: Record<string, unknown>[] = [
  { from: "t", type: "hello" },
  { from: "t", type: "ping" },
  { from: "t", type: "stop", answer: "m2" },
  { from: "t", type: "state", term: 1, isReader: true, state: STATE },
  { from: "t", type: "state", term: 1, isReader: false, to: "u", state: { messages: [], status: "ready" } },
  { from: "t", type: "status", term: 1, status: "waiting" },
  ...[...RUN, GAP].map((frame) => ({ from: "t", type: "frame", term: 1, frame, token: { key: "k", after: "e1-1" } })),
];
/** `message` with every value in it replaced by others in turn. */
function* spoil(message: unknown): Generator<unknown> {
  if (typeof message !== "object" || message === null) return;
  for (const [name, value] of Object.entries(message)) {
    for (const wrong of [undefined, null, 7, "x", [], {}, [null], true, ...spoil(value)]) {
      const copy = structuredClone(message) as Record<string, unknown>;
      copy[name] = wrong;
      yield copy;
    }
  }
}

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] }));
afterEach(() => void vi.useRealTimers());
const pass = () => new Promise((resolve) => setImmediate(resolve));

test("what tabs say is understood", () => {
  for (const message of VALID) expect(check(message)).toBe(message);
  expect(new Set(VALID.map(({ type }) => type)).size).toBe(6);
});

test("what nobody says is not", () => {
  fc.assert(fc.property(fc.anything(), (heard) => check(heard) === undefined), { numRuns: 1000 });
  for (const type of ["toString", "__proto__", "constructor", ""]) expect(check({ from: "t", type })).toBe(undefined);
});

test("a value of another type is noticed, or breaks nothing", async () => {
  let [count, refused, heard] = [0, 0, 0];
  for (const valid of VALID) {
    for (const message of spoil(valid)) {
      count++;
      if (!check(message)) {
        refused++;
        continue;
      }
      heard++;
      const origin = new Origin();
      const options = { apiUrl: "http://service.invalid/chat", shared: "c", fetch: () => new Promise<never>(() => undefined) };
      const chat = new Chat(options);
      const leave = origin.open().within(() => chat.join());
      const name = `sluicegate tabs ${VERSION} ${options.apiUrl} c`;
      const other = origin.open().within(() => new BroadcastChannel(name));
      for (const said of [{ ...VALID[3], state: { ...STATE, answer: { ...STATE.answer, id: "m2" } } }, message, message]) other.postMessage(said);
      await pass();
      toRequest(chat.snapshot().messages);
      leave();
    }
  }
  expect(count).toBeGreaterThan(1000);
  expect(refused).toBeGreaterThan(500);
  expect(heard).toBeGreaterThan(200);
});
