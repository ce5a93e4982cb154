/// <reference types="node" />
import fc from "fast-check";

// The same cases each time, so that a failure is a change's own. `SEED=... npm test` looks at others.
fc.configureGlobal({ seed: Number(process.env.SEED ?? 67_77_78) });
