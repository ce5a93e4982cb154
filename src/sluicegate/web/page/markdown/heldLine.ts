/**
 * What of a growing text's last line is not shown yet, since the next characters may make something else of it: marks at
 * the beginning of a line, runs of delimiters, bare addresses. Judged by the line alone, so it may hold back a little in
 * code as well, for a character or so.
 */

/** A text without what its last line holds back: the same text where it ends with a whole line, save a hard break's mark. */
export function withoutHeldLine(text: string): string {
  return withoutHeld(text).replace(/\\\n$/, ""); // a hard break, if a line follows
}

function withoutHeld(text: string): string {
  const start = text.lastIndexOf("\n") + 1;
  let line = text.slice(start);
  for (let before = ""; line !== before; ) {
    before = line;
    line = line.replace(TAIL, "");
  }
  const inner = line.slice(CONTAINERS.exec(line)?.[0].length);
  if (OPEN_LINE.test(inner)) return text.slice(0, start);
  return text.slice(0, start) + (HEADING.test(inner) ? line.replace(/[ \t]+#+[ \t]*$/, "") : line);
}

/** The marks of quotes and list items that a line begins with. */
export const CONTAINERS = /^(?:[ \t]*(?:>|[-+*](?=[ \t])|\d{1,9}[.)](?=[ \t])))*[ \t]*/;

const HEADING = /^#{1,6}[ \t]/;

const TAIL = new RegExp(
  [
    /\*+|_+|~+|`+/, // delimiters: the run may get longer, and what follows it says whether it opens or closes
    /!?\[|!/, // a link or an image
    /<|\\|&[#\w]*/, // a tag, an escape, a character reference
    /[\uD800-\uDBFF]/, // half of a character
    /(?<![A-Za-z<]|\]\()(?:https?:\/\/\S*|www\.\S*|https?:?\/?|htt?|h|w{1,3})/, // an address, whose end is not its text
  ]
    .map(({ source }) => `(?:${source})$`)
    .join("|"),
  "i",
);

// A line, without its containers, that says nothing yet, or not yet what it is.
const OPEN_LINE = new RegExp(
  [
    /#{1,6}[ \t]*/,
    /[-+]|=+[ \t]*|[-|:][-|: \t]*/, // an item, an underline, the rows of a table
    /([-*_])(?:[ \t]*\1)*[ \t]*/, // a thematic break
    /\d{1,9}[.)]?/,
    /\[[ xX]?\]?[ \t]*/, // a task
    /`{3,}[^`]*|~{3,}.*/, // the opening line of a fence, or the closing one
    /<[A-Za-z/!?][^>]*/, // HTML
    /(?:)/,
  ]
    .map(({ source }) => `^(?:${source})$`)
    .join("|"),
);
