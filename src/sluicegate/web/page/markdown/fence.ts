/**
 * A fenced code block at the left margin of a text's top level: by far the most frequent code, and the longest blocks.
 * It is read line by line without a parser, so that a long one costs each line once. Others go the general way.
 */
export interface Fence {
  readonly language: string;
  /** Its lines, without the line feed of the last one. */
  readonly code: string;
}

// Info strings with escapes or references are for the parser.
const OPENING = /(`{3,}|~{3,})([^`\n\\&]*)(?:\n|$)/y;

interface Opening {
  readonly language: string;
  /** Where its code begins. */
  readonly start: number;
  /** What a line that closes it matches. */
  readonly closing: RegExp;
}

/** The fence that begins at a place; undefined where none does. */
export function openingAt(text: string, at: number): Opening | undefined {
  OPENING.lastIndex = at;
  const [all, marker, info] = OPENING.exec(text) ?? [];
  if (all === undefined || marker === undefined) return undefined;
  const closing = new RegExp(`^ {0,3}${marker[0]}{${marker.length},}[ \\t]*$`);
  return { language: info?.trim().split(/[ \t]/)[0] ?? "", start: at + all.length, closing };
}

/** A whole block that is a fence, closed or not; undefined where it is something else. */
export function fenceOf(source: string): Fence | undefined {
  const opening = openingAt(source, 0);
  if (!opening) return undefined;
  const last = source.lastIndexOf("\n") + 1;
  const isClosed = last >= opening.start && opening.closing.test(source.slice(last));
  const end = isClosed || source.endsWith("\n") ? last - 1 : source.length;
  return { language: opening.language, code: source.slice(opening.start, Math.max(end, opening.start)) };
}
