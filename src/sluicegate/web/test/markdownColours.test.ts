/// <reference types="node" />
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const CSS = readFileSync("page/markdown/markdown.css", "utf8");

/** The relative luminance of WCAG 2. */
function luminance(colour: string): number {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
}

test("each colour of code stands out from its background as WCAG AA asks, in the light and in the dark", () => {
  const colours = [...CSS.matchAll(/--code-([a-z]+): light-dark\((#\w{6}), (#\w{6})\)/g)];
  const surface = colours.find(([, name]) => name === "surface")!;
  const inks = colours.filter((colour) => colour !== surface);
  for (const way of [2, 3]) {
    for (const ink of inks) {
      const [one, other] = [luminance(ink[way]!), luminance(surface[way]!)];
      expect((Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), ink[0]).toBeGreaterThanOrEqual(4.5);
    }
  }
  expect(inks.length).toBeGreaterThanOrEqual(10);
});
