import { StringStream, type StreamParser } from "@codemirror/streamparser";

import type { Language } from "./languages.js";

/** A piece of code of one colour: none where `style` is empty. */
export interface Token {
  readonly text: string;
  readonly style: string;
}

export type Chunk = readonly Token[];

/** How many lines are rendered together: a chunk that has all of them is never rendered again. */
const CHUNK_LINES = 50;
/** A line that has not ended is coloured as long as it is no longer: it is read anew with each piece. */
const LONGEST_OPEN_LINE = 500;

/**
 * The colours of code that grows, line by line: what a line is coloured like depends on nothing below it, so that it stays
 * so. Each whole line is read once. The line that has not ended yet is coloured as far as it goes.
 */
export class Highlighter {
  readonly #parser: StreamParser<unknown> | undefined;
  #state: unknown;
  #code = "";
  #read = 0;
  #chunks: Chunk[] = [];
  #open: Token[] = [];
  #openLines = 0;

  constructor({ parser }: Language) {
    this.#parser = parser;
    this.#state = parser?.startState?.(2);
  }

  /** The chunks of `code`. Those that did not change are the same objects as before. */
  take(code: string): readonly Chunk[] {
    if (!code.startsWith(this.#code)) this.#forget();
    this.#code = code;
    for (let end = code.indexOf("\n", this.#read); end >= 0; end = code.indexOf("\n", this.#read)) {
      push(this.#open, [...this.#tokens(code.slice(this.#read, end), this.#state), { text: "\n", style: "" }]);
      this.#read = end + 1;
      this.#openLines += 1;
      if (this.#openLines === CHUNK_LINES) [this.#chunks, this.#open, this.#openLines] = [[...this.#chunks, this.#open], [], 0];
    }
    const last = [...this.#open];
    push(last, this.#openLine(code.slice(this.#read)));
    return last.length ? [...this.#chunks, last] : this.#chunks;
  }

  #forget(): void {
    this.#state = this.#parser?.startState?.(2);
    [this.#code, this.#read, this.#chunks, this.#open, this.#openLines] = ["", 0, [], [], 0];
  }

  #openLine(line: string): Token[] {
    if (!line || line.length > LONGEST_OPEN_LINE) return line ? [{ text: line, style: "" }] : [];
    return this.#tokens(line, copy(this.#parser, this.#state));
  }

  #tokens(line: string, state: unknown): Token[] {
    const parser = this.#parser;
    if (!parser || !line) {
      parser?.blankLine?.(state, 2);
      return line ? [{ text: line, style: "" }] : [];
    }
    settle(parser);
    const stream = new StringStream(line, 4, 2);
    const tokens: Token[] = [];
    while (!stream.eol()) {
      const style = step(parser, stream, state);
      push(tokens, [{ text: stream.current(), style: styleOf(style) }]);
    }
    return tokens;
  }
}

/** Add tokens; neighbours of one colour become one. */
function push(tokens: Token[], more: readonly Token[]): void {
  for (const token of more) {
    const last = tokens.at(-1);
    if (last?.style === token.style) tokens[tokens.length - 1] = { text: last.text + token.text, style: token.style };
    else tokens.push(token);
  }
}

/**
 * Bring a parser to where it is before each line. That of JavaScript keeps the type of the last token it read, of whatever
 * code, outside of the state, and takes a character that is no part of the language for one more of these.
 */
function settle(parser: StreamParser<unknown>): void {
  step(parser, new StringStream(";", 4, 2), parser.startState?.(2));
}

function step(parser: StreamParser<unknown>, stream: StringStream, state: unknown): string | null {
  stream.start = stream.pos;
  for (let tries = 0; tries < 10; tries += 1) {
    const style = parser.token(stream, state);
    if (stream.pos > stream.start) return style;
  }
  stream.next(); // a parser that does not go on in ten tries has nothing to say here
  return null;
}

function copy(parser: StreamParser<unknown> | undefined, state: unknown): unknown {
  if (parser?.copyState) return parser.copyState(state);
  if (typeof state !== "object" || !state) return state;
  return Object.fromEntries(Object.entries(state).map(([key, value]) => [key, Array.isArray(value) ? [...value] : value]));
}

function styleOf(style: string | null): string {
  const names = style?.split(/[ .]/) ?? [];
  return names.map((name) => STYLES[name]).find((known) => known !== undefined) ?? "";
}

const STYLES: Readonly<Record<string, string>> = {
  keyword: "keyword", self: "keyword", atom: "number", number: "number", string: "string", character: "string",
  comment: "comment", meta: "meta", macroName: "meta", def: "name", tag: "keyword", tagName: "keyword", attribute: "property",
  attributeName: "property", property: "property", propertyName: "property", type: "type", typeName: "type", builtin: "type",
  inserted: "inserted", deleted: "deleted",
};
