import { languageOf } from "./markdown/languages.js";

/** Characters: shorter sentences and blocks are spoken with the next one. */
export const LEAST = 40;
/** Characters: of a longer sentence, whole words are spoken before it ends. */
export const MOST = 400;

const SENTENCES = new Intl.Segmenter(undefined, { granularity: "sentence" });

// Marks of quotes and items, which a line begins with, and a fence behind them.
const MARKS = /^(?:[ \t>]|[-*+][ \t]|\d{1,9}[.)][ \t])*/.source;
const OPENING = new RegExp(`${MARKS}(\`{3,}(?!.*\`)|~{3,})`);
// A line that belongs to no block above it: a blank one, a heading, a row of a table, an item.
const FIRST_LINE = /^[ \t]*(?:\n|#{1,6}[ \t]|\||[-*+][ \t]|\d{1,9}[.)][ \t])/;

/**
 * How far into `text` may be spoken, from `from` on: to the end of the last sentence (by Unicode's rules, in any script) or
 * block that is whole, to the end once `isEnded`; of an endless sentence, to the end of a word. Code is spoken of when its
 * block is whole. Looks at what is behind `from` only.
 */
export function announceable(text: string, from: number, isEnded: boolean): number {
  if (isEnded) return text.length;
  const until = endIn(text.slice(from));
  return until < LEAST ? from : from + until;
}

function endIn(rest: string): number {
  let start = 0; // of the block that is open
  let closing: RegExp | undefined; // of the fence that is open
  for (let at = 0, end = 0; at < rest.length; at = end) {
    end = rest.indexOf("\n", at) + 1 || rest.length;
    const line = rest.slice(at, end);
    const isWhole = line.endsWith("\n");
    const marker = closing ? undefined : OPENING.exec(line)?.[1];
    if (marker) closing = new RegExp(`^[ \\t>]*${marker[0]}{${marker.length},}\\s*$`);
    else if (closing) {
      if (!isWhole || !closing.test(line)) continue;
      closing = undefined;
      start = end;
      continue;
    } else if (!FIRST_LINE.test(line)) continue;
    start = isWhole && /^[ \t]*#/.test(line) ? end : at;
  }
  return closing ? start : start + sentencesIn(rest.slice(start), LEAST - start);
}

/** Where the last sentence that is whole ends in a block that may grow; a word, where that is less than `least`. */
function sentencesIn(block: string, least: number): number {
  const words = wordsOf(block);
  let end = 0;
  for (const { index } of SENTENCES.segment(words)) {
    // Whether it is a full stop is told by the next word.
    if (/\p{L}/u.test(words.slice(index))) end = index;
  }
  if (end >= least || block.length <= MOST) return end;
  return words.lastIndexOf(" ", MOST) + 1;
}

/** A block by whose characters its sentences can be told: what is no sentence of its own, such as a link, is one word. */
function wordsOf(block: string): string {
  return block
    .replace(/^\s*\d{1,9}[.)]/, filled)
    .replaceAll("\n", " ")
    .replace(UNIT, filled)
    .replace(/[*_~]/g, " ")
    .replace(/(?<=\S)[\p{Ps}\p{Pi}]/gu, "X"); // which Unicode's rules take for the end of the sentence before it
}

const filled = (text: string): string => "X".repeat(text.length);

// Code, links and addresses, also where their end is still to come.
const UNIT = /(`+)(?!`).*?(?:(?<!`)\1(?!`)|$)|!?\[[^[\]]*(?:$|\](?:\([^)]*(?:\)|$))?)|https?:\/\/\S+|<[^<>\s][^<>]*>/g;

const FENCED = new RegExp(`${MARKS}(\`{3,}|~{3,})([^\\n\`]*)(?:\\n([^]*?)|)(?:^[ \\t>]*\\1[\`~]*[ \\t]*$|(?![^]))`, "gm");
const LINK = /!?\[([^[\]]*)\]\([^()]*(?:\([^()]*\)[^()]*)*\)/g;

/** Markdown as one would read it aloud. Of code, its language and its length. */
export function plain(markdown: string): string {
  return markdown
    .replace(FENCED, (_, _marker, info: string, code = "") => `\n${aboutCode(info, code)}\n`)
    .replace(LINK, "$1")
    .replace(LINK, "$1") // an image in a link
    .replace(/^[ \t>]+/gm, "")
    .replace(/^[|:=\- \t]+$/gm, "")
    .replace(/^\|(.*?)\|?[ \t]*$/gm, (_, cells: string) => cells.trim().split(/\s*\|\s*/).join(", "))
    .replace(/^(?:[-*+]|\d{1,9}[.)])[ \t]+\[([ xX])\](?=[ \t])/gm, (_, mark: string) => (mark === " " ? "To do:" : "Done:"))
    .replace(/^(?:#{1,6}|[-*+])[ \t]+/gm, "")
    .replace(/(?<!\s)\*+|\*+(?!\s)|~~+|`+/g, "")
    .replace(/(?<![\p{L}\p{N}])_+|_+(?![\p{L}\p{N}])/gu, "")
    .replace(/\s+/g, " ")
    .trim();
}

function aboutCode(info: string, code: string): string {
  const { title } = languageOf(info.trim().split(/\s/)[0] ?? "");
  const count = code.replace(/\n$/, "").split("\n").length;
  return `${title ? `${title} code` : "Code"}, ${count} ${count === 1 ? "line" : "lines"}.`;
}
