// @vitest-environment happy-dom
import fc from "fast-check";
import { flushSync } from "react-dom";
import { createRoot, type Root } from "react-dom/client";
import { describe, expect, test, vi } from "vitest";

import * as fence from "../page/markdown/fence.js";
import { Markdown } from "../page/markdown/Markdown.js";
import * as tree from "../page/markdown/tree.js";
import { SOUP } from "./markdownCorpus.js";
import { markup, visible, wholeMarkup } from "./markdownView.js";

/** Shows a text as it grows by pieces of that size, and its end. Throws whatever is thrown, also behind React's back. */
function show(text: string, size: number): HTMLElement {
  const page = document.createElement("main");
  const thrown: unknown[] = [];
  const note = (error: unknown) => void thrown.push(error);
  const root: Root = createRoot(page, { onUncaughtError: note, onCaughtError: () => undefined });
  for (let end = 0; end < text.length; end += size) flushSync(() => root.render(<Markdown text={text.slice(0, end)} isGrowing />));
  flushSync(() => root.render(<Markdown text={text} isGrowing={false} />));
  expect(thrown).toEqual([]);
  return page;
}

const SPECIAL = [..."\n\n\n  \t\r\0#*_~`-+=>|[]()<>!\\&:;^\"'.@/1x2", "[ ]", "[x]", "\n- ", "\n  ", "```", "| --- |", "[^1]", "]:", "😀", "\uD800"];

describe("no text throws", () => {
  test("whatever special characters it is made of", () => {
    const soup = fc.array(fc.constantFrom(...SPECIAL, ...SOUP), { maxLength: 40 }).map((bits) => bits.join(""));
    fc.assert(
      fc.property(soup, fc.integer({ min: 1, max: 20 }), (text, size) => {
        expect(show(text, size).querySelector(".md-plain")).toBeNull();
      }),
      { numRuns: 1_000 },
    );
  });

  const marks = ["- ", "-\n", "> ", "1. ", "# ", "| ", "* - ", "- > ", "-\n  ", "-\n> ", "[^1]: ", "- a\n", "-\n\n  ", ""];
  const boxes = ["[ ]", "[x]", "[X]", "[\n]", "[\t]"];
  const ends = ["", " ", " a", "\na", "\n", " *a*", "a", "(u)", " |\n|---|\n", "\n==="];

  test("and every box is a task of an item, or the text that it is", () => {
    const cases = marks.flatMap((mark) => boxes.flatMap((box) => ends.map((end) => [mark, box, end] as const)));
    for (const [mark, box, end] of cases) {
      const text = mark + box + end;
      for (let at = 0; at <= text.length; at++) markup(text.slice(0, at), true);
      expect(markup(text, false)).toBe(wholeMarkup(text));
      const seen = visible(markup(text, false)).map((unit) => unit.slice(unit.indexOf(":") + 1));
      const isTask = seen.some((unit) => unit.startsWith("<input"));
      const isLink = end === "(u)" || (mark === "[^1]: ");
      if (!isTask && !isLink) expect(seen.join("").replace(/\s/g, ""), JSON.stringify(text)).toContain(box.replace(/\s/g, ""));
    }
    expect(cases.length).toBeGreaterThanOrEqual(500);
  });

  const deep: Readonly<Record<string, (depth: number) => string>> = {
    quotes: (depth) => `${"> ".repeat(depth)}a`,
    lists: (depth) => `${"- ".repeat(depth)}a`,
    "both in turn": (depth) => `${"> 1. ".repeat(depth)}a`,
    emphasis: (depth) => `${"*_".repeat(depth)}a${"_*".repeat(depth)}`,
    "emphasis without an end": (depth) => "*a ".repeat(depth),
    "struck and strong": (depth) => `${"~~**".repeat(depth)}a${"**~~".repeat(depth)}`,
    brackets: (depth) => `${"[".repeat(depth)}a${"]".repeat(depth)}`,
    images: (depth) => `${"![".repeat(depth)}a${"](u)".repeat(depth)}`,
  };
  test.each(Object.keys(deep))("however deep it is nested, of which a browser gets little: %s", (name) => {
    for (const depth of [10, 31, 32, 33, 100, 300]) {
      const text = deep[name]!(depth);
      const page = show(text, text.length);
      expect(depthOf(page)).toBeLessThanOrEqual(80);
      expect(page.textContent).toContain("a");
    }
  });

  test("not even where the libraries do: that block, or all, is shown as it came", () => {
    const text = "One *block*.\n\nAnother *one*.\n\nA third.";
    const real = tree.remarkPlain();
    vi.spyOn(tree, "remarkPlain").mockReturnValue((root, file) => {
      if (String(file).startsWith("Another")) throw new RangeError("Maximum call stack size exceeded");
      real(root, file);
    });
    const [first, second, third] = show(text, 1).querySelector(".md-group")!.children;
    expect([first!.innerHTML, second!.textContent, third!.innerHTML]).toEqual(["One <em>block</em>.", "Another *one*.", "A third."]);
    vi.spyOn(fence, "openingAt").mockImplementation(() => {
      throw new RangeError("Maximum call stack size exceeded");
    });
    expect(show(text, 7).textContent).toBe(text);
    vi.restoreAllMocks();
  });
});

const depthOf = (element: Element): number => 1 + Math.max(0, ...[...element.children].map(depthOf));
