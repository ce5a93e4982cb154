/// <reference types="node" />
import fc from "fast-check";

// The same cases each time, so that a failure is a change's own. `SEED=... npm test` looks at others.
fc.configureGlobal({ seed: Number(process.env.SEED ?? 67_77_78) });

// Those of Node (from 24 on) know of no tabs: what a test's tab holds when it crashes would be held for ever.
if (typeof navigator !== "undefined") Reflect.deleteProperty(Object.getPrototypeOf(navigator), "locks");
