import type { Root } from "mdast";

import { openingAt } from "./fence.js";
import { CONTAINERS, withoutHeldLine } from "./heldLine.js";
import { lastLeaf, openEnd } from "./inline.js";
import { endOf, hasBlankLine, parse, sectionsOf, startOf, type Section } from "./parse.js";

/**
 * The sources of the blocks that can be shown of the open end of a growing text, which begins with a block. What they
 * show stays as it is when the text grows, at whatever character it ends now: half-open syntax is closed where its
 * meaning is plain, and held back where it is not.
 */
export function growingBlocks(tail: string): string[] {
  const opening = openingAt(tail, 0);
  if (opening && tail[opening.start - 1] === "\n") return [growingFence(tail, opening.closing)];
  let text = withoutHeldLine(tail);
  for (;;) {
    const tree = parse(text);
    const open = openEndOf(text, tree);
    if ("closing" in open) {
      const sources = sourcesOf(text, sectionsOf(text, tree));
      if (open.closing) sources.push(sources.pop()!.trimEnd() + open.closing);
      return sources;
    }
    text = withoutHeldLine(text.slice(0, open.cut));
  }
}

/** The sources of those sections that show anything where they stand. */
export function sourcesOf(text: string, sections: readonly Section[]): string[] {
  const shown = sections.filter(({ nodes }) => nodes.some(({ type }) => type !== "definition" && type !== "footnoteDefinition"));
  return shown.map(({ start, end }) => text.slice(start, end));
}

function growingFence(source: string, closing: RegExp): string {
  const start = source.lastIndexOf("\n") + 1;
  const line = source.slice(start);
  if (closing.test(line)) return source;
  if (/^ {0,3}[`~]*[ \t]*$/.test(line)) return source.slice(0, start);
  return source.replace(/[\uD800-\uDBFF]$/, "");
}

function openEndOf(text: string, tree: Root) {
  const none = { closing: "" };
  const leaf = tree.children.at(-1)?.type === "footnoteDefinition" ? undefined : lastLeaf(tree);
  const end = text.trimEnd();
  if (!leaf || endOf(leaf) < end.length || (leaf.type === "tableCell" && /(?<!\\)\|$/.test(end))) return none;
  const behind = text.slice(endOf(leaf));
  if (leaf.type === "paragraph" ? hasBlankLine(behind) : behind.includes("\n")) return none;
  if (leaf.type === "paragraph") {
    // The last line is a table's head if the next one is its delimiter row.
    const line = Math.max(text.lastIndexOf("\n", endOf(leaf) - 1) + 1, startOf(leaf));
    if (text.slice(line).replace(CONTAINERS, "").startsWith("|")) return { cut: line };
  }
  return openEnd(text, leaf);
}
