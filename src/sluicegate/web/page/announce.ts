const LEAST = 40; // characters: shorter sentences are spoken with the next one
const BOUNDARY = /^ {0,3}(?:```|~~~)|[.!?…:]["'”’)\]*_]*(?=\s)|\n\s*\n/gm;

/**
 * How far into `text` may be spoken, from `from` on: to the end of the last sentence or block that is whole, to the end
 * once `isEnded`. Code is spoken of when its block is whole. Looks at what is behind `from` only.
 */
export function announceable(text: string, from: number, isEnded: boolean): number {
  if (isEnded) return text.length;
  const rest = text.slice(from);
  let until = 0;
  let isCode = false;
  for (const { 0: found, index } of rest.matchAll(BOUNDARY)) {
    if (/[`~]/.test(found)) isCode = !isCode;
    else if (!isCode) until = index + found.length;
  }
  return until < LEAST ? from : from + until;
}

/** Markdown as one would read it aloud. */
export function plain(markdown: string): string {
  return markdown
    .replace(/^ {0,3}(`{3,}|~{3,})[^\n]*\n[\s\S]*?(^ {0,3}\1[^\n]*$|$(?![\s\S]))/gm, "Code. ")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^[ \t]*(#{1,6}|>|[-*+]|\d+[.)])[ \t]+/gm, "")
    .replace(/^[ \t|:-]+$/gm, "")
    .replace(/[*_`~|]+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
}
