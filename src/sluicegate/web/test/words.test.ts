import { readFileSync } from "node:fs";

import { expect, test } from "vitest";

import type { Code } from "../client/index.js";
import { explain } from "../page/words.js";

const SCHEMA = JSON.parse(readFileSync(new URL("../../../../specs/wire.schema.json", import.meta.url), "utf8")) as {
  $defs: { ErrorCode: { enum: Code[] } };
};
const CODES: Code[] = [...SCHEMA.$defs.ErrorCode.enum, "CONNECTION_LOST", "BAD_ANSWER"];
const failure = (code: Code) => ({ code, message: "", retryable: true });

test("every code has words of its own, and says what to do", () => {
  expect(CODES.length).toBeGreaterThanOrEqual(16);
  const words = CODES.map((code) => explain(failure(code)));
  expect(new Set(words.map(({ title }) => title)).size).toBe(CODES.length);
  for (const { title, advice } of words) {
    expect(title).toMatch(/^[A-Z][^.]+$/);
    expect(advice).toMatch(/^[A-Z].+\.$/);
    expect(title + advice).not.toMatch(/[A-Z]{2}_|undefined/);
  }
});

test("a code of a newer server is an error like any other", () => {
  expect(explain(failure("NEWER" as Code))).toEqual(explain(failure("INTERNAL")));
});

test("where the server says how long to wait, so do the words", () => {
  for (const code of CODES) {
    expect(explain({ ...failure(code), retryAfterMs: 1 }).advice).toBe("Try again in 1 second.");
    expect(explain({ ...failure(code), retryAfterMs: 16_001 }).advice).toBe("Try again in 17 seconds.");
  }
});
