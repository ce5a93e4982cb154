import { fileURLToPath } from "node:url";

import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** Tests with the builds of libraries that check themselves, and so throw more often. */
const CHECKED = "test/markdownThrows.test.tsx";

/** The page, into `static/`, which is committed: who installs the Python package needs no Node. */
export default defineConfig({
  root: "page",
  base: "./",
  plugins: [react()],
  resolve: {
    // Its build for browsers sets innerHTML, which Trusted Types forbid.
    alias: {
      "decode-named-character-reference": fileURLToPath(import.meta.resolve("decode-named-character-reference")),
    },
  },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "^/(chat|runs|models)": "http://127.0.0.1:8000" } },
  test: {
    root: ".",
    setupFiles: ["test/seed.ts"],
    testTimeout: 600_000, // for a slow machine
    projects: [
      { extends: true, test: { name: "shipped", include: ["test/**/*.test.{ts,tsx}"], exclude: [CHECKED] } },
      { extends: true, test: { name: "checked", include: [CHECKED], execArgv: ["--conditions=development"] } },
    ],
  },
});
