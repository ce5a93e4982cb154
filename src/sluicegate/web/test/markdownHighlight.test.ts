import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Highlighter, type Chunk } from "../page/markdown/highlight.js";
import { languageOf } from "../page/markdown/languages.js";

const KNOWN = "bash c cpp csharp css diff dockerfile go html java js json kotlin python rust sql toml ts xml yaml";
const LANGUAGES = [...KNOWN.split(" "), "unknown"];
const BITS = [
  "\n", "\n", " ", "\t", "a", "x1", "foo", "(", ")", "{", "}", "[", "]", "<a b='c'>", "</a>", "<!-- ", "-->", "'", '"', '"""', "`",
  "${", "/*", "*/", "//", "#", "--", "=", "=>", ":", ";", ",", ".", "1", "0x1f", "1.5e3", "if", "class", "def", "fn", "let", "select",
  "from", "return", "import", "@x", "$y", "\\", "+", "-", "😀", "end", "do", "<<EOF", "EOF", "key: |", "%w(", "&",
];
const codes = fc.array(fc.constantFrom(...BITS), { maxLength: 200 }).map((bits) => bits.join(""));
const all = (code: string, name: string) => new Highlighter(languageOf(name)).take(code);

/** Each character with its colour, since neighbours of one colour are one token. */
const characters = (chunks: readonly Chunk[]) =>
  chunks.flat().flatMap(({ text, style }) => text.split("").map((unit) => `${style}:${unit}`));

describe.each(LANGUAGES)("code in %s", (name) => {
  test("is all there, in colours that depend on nothing below", () => {
    fc.assert(
      fc.property(codes, fc.nat(), (code, at) => {
        const colours = characters(all(code, name));
        expect(colours.map((colour) => colour.slice(colour.indexOf(":") + 1)).join("")).toBe(code);
        const lines = code.slice(0, code.lastIndexOf("\n", at % (code.length + 1)) + 1);
        expect(characters(all(lines, name))).toEqual(colours.slice(0, lines.length));
      }),
      { numRuns: 60 },
    );
  });

  test("is the same whatever other code was read before", () => {
    for (const code of BITS) {
      const [first, ...others] = BITS.map((other) => (all(other, name), all(code, name)));
      for (const again of others) expect(again).toEqual(first);
    }
    expect(BITS.length).toBeGreaterThanOrEqual(50);
  });

  test("is the same by whatever pieces it came", () => {
    fc.assert(
      fc.property(codes, fc.integer({ min: 1, max: 9 }), (code, size) => {
        const highlighter = new Highlighter(languageOf(name));
        for (let end = 0; end < code.length; end += size) {
          expect(highlighter.take(code.slice(0, end))).toEqual(all(code.slice(0, end), name));
        }
        expect(highlighter.take(code)).toEqual(all(code, name));
      }),
      { numRuns: 40 },
    );
  });
});

test("a comment is one colour over all its lines, whatever is in it", () => {
  const lines = Array.from({ length: 120 }, (_, at) => `if (${at}) return 'x';`);
  const colours = characters(all(["a", "/*", ...lines, "*/", "1"].join("\n"), "java")).map((colour) => colour.split(":")[0]);
  expect(new Set(colours.slice(2, -2))).toEqual(new Set(["comment", ""])); // line feeds have no colour
  expect(colours.filter((colour) => colour === "comment")).toHaveLength(lines.join("").length + 4);
  expect(colours.at(-1)).toBe("number");
});

test("each language that is known colours something", () => {
  const sample = "if (1) { return 'a'; } # x\n// y\n-- z\n<a href=\"b\">\n- c: 1\n+ d\nFROM x\nselect 1";
  for (const name of LANGUAGES) {
    expect(characters(all(sample, name)).some((colour) => !colour.startsWith(":"))).toBe(name !== "unknown");
  }
});
