// @vitest-environment happy-dom
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { beforeEach, describe, expect, test, vi } from "vitest";

import { Blocks, GROUP } from "../page/markdown/blocks.js";
import { Highlighter } from "../page/markdown/highlight.js";
import { languageOf } from "../page/markdown/languages.js";
import { Markdown } from "../page/markdown/Markdown.js";
import { DOCUMENTS } from "./markdownCorpus.js";
import { markup, neutral } from "./markdownView.js";

/** Characters that went through the parser, the library that renders, a language's parser, and the search for a fence's end. */
const cost = { parsed: 0, rendered: 0, coloured: 0, searched: 0 };
const NOTHING = { ...cost };

vi.mock("../page/markdown/parse.js", async (original) => {
  const module = await original<typeof import("../page/markdown/parse.js")>();
  return { ...module, parse: (text: string) => ((cost.parsed += text.length), module.parse(text)) };
});
vi.mock("../page/markdown/fence.js", async (original) => {
  const module = await original<typeof import("../page/markdown/fence.js")>();
  const openingAt: typeof module.openingAt = (text, at) => {
    const opening = module.openingAt(text, at);
    const closing = opening && Object.assign(new RegExp(opening.closing), {
      test: (line: string) => ((cost.searched += line.length), opening.closing.test(line)),
    });
    return opening && closing && { ...opening, closing };
  };
  return { ...module, openingAt };
});
vi.mock("react-markdown", async (original) => {
  const module = await original<typeof import("react-markdown")>();
  const Counting: typeof module.default = (props) => ((cost.rendered += props.children?.length ?? 0), module.default(props));
  return { ...module, default: Counting };
});
vi.mock("@codemirror/streamparser", async (original) => {
  const module = await original<typeof import("@codemirror/streamparser")>();
  class Counting extends module.StringStream {
    constructor(line: string, tabSize: number, indentUnit: number) {
      super(line, tabSize, indentUnit);
      cost.coloured += line.length;
    }
  }
  return { ...module, StringStream: Counting };
});

beforeEach(() => void Object.assign(cost, NOTHING));

const PIECE = 12;

function grow(text: string, seen: (page: HTMLElement) => void = () => undefined): HTMLElement {
  const page = document.createElement("main");
  const root = createRoot(page);
  for (let end = 0; end < text.length + PIECE; end += PIECE) {
    flushSync(() => root.render(<Markdown text={text.slice(0, end)} isGrowing />));
    seen(page);
  }
  flushSync(() => root.render(<Markdown text={text} isGrowing={false} />));
  return page;
}

const ANSWER = DOCUMENTS["an answer"]!;
const times = (count: number, text: string): string => Array.from({ length: count }, () => text).join("\n\n");

describe("a text that grows", () => {
  test("in a page shows what it shows at once, and its blocks stay the elements that they are", () => {
    const first = new Map<number, Element>();
    const text = times(2, ANSWER);
    const page = grow(text, (grown) => {
      const blocks = [...grown.querySelectorAll(".md-group > *")];
      for (const [at, block] of blocks.slice(0, -2).entries()) expect(block).toBe(first.get(at) ?? block);
      blocks.slice(0, -2).forEach((block, at) => first.set(at, block));
    });
    const atOnce = document.createElement("main");
    atOnce.innerHTML = markup(text, false);
    expect(neutral(page.innerHTML)).toBe(atOnce.innerHTML);
    expect(first.size).toBeGreaterThanOrEqual(15);
  });

  test("costs in proportion to its length", () => {
    const costs = [4, 8, 16].map((count) => {
      Object.assign(cost, NOTHING);
      grow(times(count, ANSWER));
      return { ...cost };
    });
    for (const kind of ["parsed", "rendered", "coloured", "searched"] as const) {
      const [small, middle, large] = costs.map((each) => each[kind]) as [number, number, number];
      expect(large - middle).toBeLessThanOrEqual(2.5 * (middle - small));
    }
    // With each piece, the block that is open is read once to see what can be shown of it, and once to show it; with each
    // line once more.
    const open = (times(16, ANSWER).length / PIECE) * Math.max(...ANSWER.split("\n\n").map((block) => block.length));
    expect(costs[2]!.rendered).toBeLessThanOrEqual(open);
    expect(costs[2]!.parsed).toBeLessThanOrEqual(2 * open);
  });

  test("is rendered again by its last groups of blocks, and wholly only for a definition", () => {
    const blocks = new Blocks();
    let [before, text] = [blocks.take("", true), ""];
    const add = (more: string) => {
      before = blocks.take(text, true);
      text += more;
      const after = blocks.take(text, true);
      return [before.filter((group, at) => group !== after[at]).length, after.length] as const;
    };
    for (let at = 0; at < 20 * GROUP; at++) expect(add(`Paragraph ${at}, of [this].\n\n`)[0]).toBeLessThanOrEqual(1);
    expect(add("[this]: https://example.com\n\n")).toEqual([20, 20]);
    expect(blocks.take(text, true).flat().every(({ definitions }) => definitions.includes("example.com"))).toBe(true);
    for (let at = 0; at < GROUP; at++) expect(add("More.\n\n")[0]).toBeLessThanOrEqual(1);
    const [grown, ended] = [blocks.take(text, true), blocks.take(text, false)];
    expect(grown.filter((group, at) => group !== ended[at]).length).toBeLessThanOrEqual(1);
  });

  test("is rendered with the last definitions, also behind an end that was none", () => {
    const blocks = new Blocks();
    const text = `${times(2 * GROUP, "Of [this].")}\n\n[this]: https://example.com/whole`;
    for (const end of [text.length - 6, text.length]) {
      const shown = blocks.take(text.slice(0, end), false);
      expect(shown).toEqual(new Blocks().take(text.slice(0, end), false));
    }
  });

  test("and is one fence of 5,000 lines is read once, by lines", () => {
    const code = Array.from({ length: 5_000 }, (_, at) => `const x${at} = "${at}"; // ${at}`).join("\n");
    const text = `\`\`\`js\n${code}`;
    const [blocks, highlighter] = [new Blocks(), new Highlighter(languageOf("js"))];
    let renewed = 0;
    let before = highlighter.take("");
    for (let end = 0; end < text.length; end += 100) {
      const [[block] = []] = blocks.take(text.slice(0, end), true);
      const chunks = highlighter.take(code.slice(0, Math.max(0, end - 6)));
      renewed += chunks.filter((chunk, at) => chunk !== before[at]).length;
      before = chunks;
      expect(block?.source.length ?? 0).toBeLessThanOrEqual(end);
    }
    expect(cost.parsed).toBeLessThan(100);
    expect(cost.coloured).toBeLessThan(1.5 * code.length);
    expect(cost.searched).toBeLessThan(2 * code.length); // whole lines, and with each piece the one that has not ended
    expect(renewed).toBeLessThan(1.2 * (text.length / 100));
  });

  test("and whose code is one endless line is not coloured again and again", () => {
    const highlighter = new Highlighter(languageOf("json"));
    const line = `[${"1,".repeat(20_000)}`;
    for (let end = 0; end < line.length; end += 40) highlighter.take(line.slice(0, end));
    expect(cost.coloured).toBeLessThan(line.length);
  });
});
