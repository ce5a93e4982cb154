import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

/** The page, into `static/`, which is committed: who installs the Python package needs no Node. */
export default defineConfig({
  root: "page",
  base: "./",
  plugins: [react()],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: { proxy: { "^/(chat|runs|models)": "http://127.0.0.1:8000" } },
  test: { root: ".", include: ["test/**/*.test.{ts,tsx}"] },
});
