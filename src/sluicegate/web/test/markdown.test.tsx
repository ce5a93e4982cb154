import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Blocks } from "../page/markdown/blocks.js";
import { DOCUMENTS, SOUP } from "./markdownCorpus.js";
import { markup, visible, wholeMarkup } from "./markdownView.js";

const NAMES = Object.keys(DOCUMENTS);

/** Where what is shown changes after all, and how often: what decides comes only later. */
const CHANGES: Readonly<Record<string, number>> = {
  "setext headings": 2, // a paragraph is a heading by the line below it
  "table without outer pipes": 1, // the same for a table, whose lines begin like any other
  "references below": 1, // brackets are a link by a definition below them
  footnotes: 1, // and a footnote by its note
  "bare mail": 1, // a word is an address by what follows it
};

/** The prefixes at which what was shown before is not the beginning of what is shown, `text` at its end being finished. */
function changesOf(text: string): string[] {
  const changes: string[] = [];
  let before: string[] = [];
  for (let end = 0; end <= text.length + 1; end++) {
    const now = visible(markup(text.slice(0, end), end <= text.length));
    const at = before.findIndex((seen, at) => seen !== now[at]);
    if (at >= 0) changes.push(`${JSON.stringify(text.slice(0, end))} at ${at}: ${before[at]} -> ${now[at]}`);
    before = now;
  }
  return changes;
}

const inQuote = (text: string): string => text.replace(/^/gm, "> ");
const inItem = (text: string): string => `- ${text.replace(/\n(?=[^\n])/g, "\n  ")}`;

describe("what is shown of a growing text", () => {
  test.each(NAMES)("only ever grows at its end: %s", (name) => {
    const changes = changesOf(DOCUMENTS[name]!);
    expect(changes, changes.join("\n")).toHaveLength(CHANGES[name] ?? 0);
  });

  test("does so in a quote or in a list, too", () => {
    const steady = NAMES.filter((name) => !(name in CHANGES) && name !== "CRLF" && !name.startsWith("references"));
    steady.forEach((name, at) => expect(changesOf((at % 2 ? inQuote : inItem)(DOCUMENTS[name]!))).toEqual([]));
    expect(steady.length).toBeGreaterThanOrEqual(40);
  });

  test("stays close behind what has come", () => {
    const text = DOCUMENTS["an answer"]!;
    const held = Array.from({ length: text.length }, (_, end) => {
      const [all, shown] = [false, true].map((isGrowing) => visible(markup(text.slice(0, end), isGrowing)).length);
      return all! - shown!;
    });
    expect(held.reduce((sum, count) => sum + count) / held.length).toBeLessThan(5);
  });
});

describe("a text that has grown", () => {
  test.each(NAMES)("is what one run of the library makes of it: %s", (name) => {
    expect(markup(DOCUMENTS[name]!, false)).toBe(wholeMarkup(DOCUMENTS[name]!));
    expect(NAMES.length).toBeGreaterThanOrEqual(50);
  });

  const documents = fc.constantFrom(...Object.values(DOCUMENTS));
  const mixtures = fc.array(documents, { minLength: 2, maxLength: 5 }).map((all) => all.join("\n\n"));
  const soup = fc
    .array(fc.constantFrom(...SOUP), { maxLength: 24 })
    .map((bits) => bits.join(""));

  test("so it is for mixtures, and for whatever else", () => {
    const law = (text: string): void => {
      expect(markup(text, false)).toBe(wholeMarkup(text));
    };
    // Where a block depends on others.
    ["[a]: /u\n2) ", "a\n* 2) ", "\ta\n\n* ", "> [a]:\n> https://x.y\n\n[A] [a]", "```\na\n\n"].forEach(law);
    fc.assert(fc.property(mixtures, law), { numRuns: 100 });
    fc.assert(fc.property(soup, law), { numRuns: 2_000 });
  });

  test("is the same, while it grows and at its end, by whatever pieces it came", () => {
    const sizes = fc.infiniteStream(fc.integer({ min: 1, max: 60 }));
    const law = (text: string, pieces: Iterator<number>): void => {
      const blocks = new Blocks();
      for (let end = 0; end < text.length; end += Number(pieces.next().value)) {
        const grown = text.slice(0, end);
        expect(blocks.take(grown, true)).toEqual(new Blocks().take(grown, true));
      }
      expect(blocks.take(text, false)).toEqual(new Blocks().take(text, false));
    };
    fc.assert(fc.property(mixtures, sizes, law), { numRuns: 50 });
    fc.assert(fc.property(soup, (text) => law(text, ones())), { numRuns: 300 });
  });

  test("is read anew when it is another text", () => {
    fc.assert(
      fc.property(soup, soup, (one, other) => {
        const blocks = new Blocks();
        blocks.take(one, true);
        expect(blocks.take(other, false)).toEqual(new Blocks().take(other, false));
      }),
    );
  });
});

function* ones(): Generator<number> {
  for (;;) yield 1;
}
