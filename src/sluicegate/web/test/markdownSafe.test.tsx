import { describe, expect, test } from "vitest";

import payloads from "./markdownPayloads.json" with { type: "json" };
import { markup } from "./markdownView.js";

const ELEMENTS = new Set([
  ..."div p h1 h2 h3 h4 h5 h6 ul ol li blockquote figure figcaption pre code span button".split(" "),
  ..."table thead tbody tr th td em strong del a br hr input section sup".split(" "),
]);
const ATTRIBUTES = new Set([
  ..."class href rel target type disabled checked start tabindex role id aria-label aria-describedby".split(" "),
  ..."data-footnotes data-footnote-ref data-footnote-backref".split(" "),
]);

/** What is in the markup that should not be. React escapes text, so that each `<` is one of an element. */
function strangersIn(html: string): string[] {
  return [...html.matchAll(/<\/?([^\s/>]+)((?:\s+[^\s=/>]+(?:="[^"]*")?)*)\s*\/?>/g)].flatMap(([, name, rest]) => {
    const attributes = [...rest!.matchAll(/([^\s=]+)(?:="([^"]*)")?/g)];
    const isBad = (key: string, value = "") => key === "href" && !/^(?:https?:|mailto:|#id-user-)/i.test(value);
    const isTelling = name === "a" && /href="[^#]/.test(rest!) && !/rel="noopener noreferrer" target="_blank"/.test(rest!);
    return [
      ...(ELEMENTS.has(name!) ? [] : [name!]),
      ...attributes.filter(([, key]) => !ATTRIBUTES.has(key!)).map(([, key]) => key!),
      ...attributes.filter(([, key, value]) => isBad(key!, value)).map(([all]) => all),
      ...(isTelling ? ["a link that tells"] : []),
    ];
  });
}

describe("a payload", () => {
  test.each(payloads.map((payload) => [payload]))("is text at each of its bytes: %j", (payload) => {
    for (let end = 0; end <= payload.length; end++) {
      for (const isGrowing of [true, false]) {
        const html = markup(`Text ${payload.slice(0, end)}`, isGrowing) + markup(payload.slice(0, end), isGrowing);
        expect(strangersIn(html)).toEqual([]);
        expect(html.match(/</g)?.length).toBe(html.match(/<\/?[a-z][a-z0-9]*(?:\s[^<>]*)?>/g)?.length);
      }
    }
  });

  test("is one of many, and one that is no text is seen", () => {
    expect(new Set(payloads).size).toBeGreaterThanOrEqual(60);
    const links = ['<a href="javascript:x">a</a>', '<a href="https://x">a</a>'];
    const live = ['<img src="x"/>', '<p onclick="x">a</p>', '<p style="x"></p>', ...links];
    for (const html of live) expect(strangersIn(html)).not.toEqual([]);
  });
});
