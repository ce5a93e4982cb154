import type { Heading, Nodes, Paragraph, TableCell } from "mdast";

import { endOf, startOf } from "./parse.js";

/** What the open end of a text needs to be shown: to be cut at an offset, or to be followed by what closes it. */
export type Open = { readonly cut: number } | { readonly closing: string };

/** The last of what holds text inline, in a tree. */
export function lastLeaf(node: Nodes): Heading | Paragraph | TableCell | undefined {
  if (node.type === "heading" || node.type === "paragraph" || node.type === "tableCell") return node;
  const last = "children" in node ? node.children.at(-1) : undefined;
  return last && lastLeaf(last);
}

/**
 * What is open at the end of `leaf`, which is the end of `text`. The parser left as text what it could not match, so each
 * delimiter that it found there and that could open something waits for its other half. Emphasis and code are closed;
 * a link, an image or a tag is cut off until all of it has come.
 */
export function openEnd(text: string, leaf: Heading | Paragraph | TableCell): Open {
  const closing: string[] = [];
  for (const [start, end] of textRanges(leaf)) {
    for (let at = start; at < end; ) {
      const run = runAt(text, at);
      if (text[at] === "\\") at += 2;
      else if (text[at] === "`") return codeFrom(text, at + run, run, closing);
      else if (text[at] === "[" && isOpenLink(text.slice(at), at === startOf(leaf))) return { cut: beginOfLink(text, at) };
      else if (text[at] === "<" && OPEN_TAG.test(text.slice(at, at + LONGEST))) return { cut: at };
      else {
        if (canOpen(text, at, run)) closing.unshift(text.slice(at, at + run));
        at += run;
      }
    }
  }
  return { closing: closing.join("") };
}

// With the mark that makes it an image.
const beginOfLink = (text: string, at: number): number => (text[at - 1] === "!" ? at - 1 : at);

/** What the parser left as text. Addresses that it found in its tree, not in the source, have no position. */
function textRanges(leaf: Heading | Paragraph | TableCell): [start: number, end: number][] {
  const others = leaf.children.filter((node) => node.type !== "text" && node.position);
  const starts = [startOf(leaf), ...others.map(endOf)];
  return starts.map((start, at) => [start, others[at] ? startOf(others[at]) : endOf(leaf)]);
}

// Longer than any tag or link that one would wait for.
const LONGEST = 2_000;

function runAt(text: string, at: number): number {
  let end = at + 1;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

function codeFrom(text: string, at: number, run: number, closing: readonly string[]): Open {
  if (!text.slice(at).trim()) return { cut: at - run };
  const padding = /^[ \n]|`\s*$/.test(text.slice(at)) ? " " : "";
  return { closing: padding + "`".repeat(run) + closing.join("") };
}

/** Whether a run of delimiters opens emphasis, by the rules of CommonMark for what stands before and behind it. */
function canOpen(text: string, at: number, run: number): boolean {
  const mark = text[at]!;
  if (mark === "~" ? run !== 2 : mark !== "*" && mark !== "_") return false;
  const [before, behind] = [text[at - 1] ?? " ", text[at + run] ?? " "];
  if (/\s/.test(behind)) return false;
  const isBehindMark = PUNCTUATION.test(behind);
  const isFree = /\s/.test(before) || PUNCTUATION.test(before);
  if (mark === "_") return isFree;
  if (mark === "*" && run === 1 && /\d/.test(before) && /\d/.test(behind)) return false; // a product: 2*3
  return !isBehindMark || isFree;
}

const PUNCTUATION = /[\p{P}\p{S}]/u;

function isOpenLink(rest: string, isFirst: boolean): boolean {
  if (rest.length > LONGEST) return false;
  const end = closingBracket(rest);
  if (end < 0) return true;
  const behind = rest.slice(end + 1);
  if (behind === "") return true;
  if (behind[0] === "(") return OPEN_TARGET.test(behind);
  if (behind[0] === "[") return !behind.includes("]");
  return behind[0] === ":" && isFirst;
}

function closingBracket(rest: string): number {
  for (let at = 0, depth = 0; at < rest.length; at += 1) {
    if (rest[at] === "\\") at += 1;
    else if (rest[at] === "[") depth += 1;
    else if (rest[at] === "]" && --depth === 0) return at;
  }
  return -1;
}

// The beginning of what stands in the parentheses of a link: an address and a title.
const OPEN_TARGET = /^\(\s*(?:<[^<>\n]*>?|[^\s<]\S*)?(?:\s+(?:"[^"]*"?|'[^']*'?|\([^)]*)?\s*)?$/;

// The beginning of a tag, a comment or an instruction, or of an address in angle brackets.
const ATTRIBUTE = /\s+[\w:.-]+(?:\s*=\s*(?:"[^"]*"?|'[^']*'?|[^\s"'=<>`]*))?/.source;
const OPEN_TAG = new RegExp(
  [/[!?][^>]*/.source, /[A-Za-z][\w.+-]*(?::[^\s<>]*|@[\w.-]*)?/.source, /\/?/.source, `/?[A-Za-z][\\w-]*(?:${ATTRIBUTE})*\\s*/?`]
    .map((open) => `^<(?:${open})$`)
    .join("|"),
);
