/// <reference types="node" />
import fc from "fast-check";
import { afterAll } from "vitest";

// The same cases each time, so that a failure is a change's own. `SEED=... npm test` looks at others.
fc.configureGlobal({ seed: Number(process.env.SEED ?? 67_77_78) });

// Those of Node (from 24 on) know of no tabs: what a test's tab holds when it crashes would be held for ever.
if (typeof navigator !== "undefined") Reflect.deleteProperty(Object.getPrototypeOf(navigator), "locks");

// React goes on behind the last test, and may not when its window is gone.
afterAll(async () => {
  for (let turn = 0; turn < 1_000; turn++) await new Promise((resolve) => setImmediate(resolve));
});
