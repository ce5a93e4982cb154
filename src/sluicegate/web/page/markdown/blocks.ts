import type { Nodes } from "mdast";

import { openingAt } from "./fence.js";
import { growingBlocks, sourcesOf } from "./growing.js";
import { definitionsIn, endOf, hasBlankLine, hasFootnotes, parse, sectionsOf, startOf, type Section } from "./parse.js";

/** One top-level block of a text, as it is rendered. */
export interface BlockSource {
  readonly source: string;
  /** The definitions of links, from anywhere in the text, that it may refer to. */
  readonly definitions: string;
  readonly isFence: boolean;
}

interface Done {
  readonly source: string;
  readonly labels: ReadonlySet<string>;
}

/** Blocks that follow each other, so many that a page need not look at each of a long text's. */
export type Group = readonly BlockSource[];

export const GROUP = 32;

/**
 * The top-level blocks of a text that grows, its line ends being line feeds. A block that more text can no longer change
 * is split off for good and never read again; the one that is open is read again with each line that it gets. A fence is
 * read line by line, once.
 *
 * A reference to a definition above it is a link at once; one to a definition below it becomes one when that is complete.
 * Footnotes are numbered through a text, so a text that has them is one single block once it has ended; while it grows
 * they are not shown, and what calls them is plain text.
 */
export class Blocks {
  #given = "";
  #text = "";
  #done: Done[] = [];
  #definitions = new Map<string, string>();
  #full: Group[] = []; // of blocks that are done, made when so many definitions were known
  #fullBy = 0;
  #hasFootnotes = false;
  #start = 0; // of the block that is open
  #read = 0; // the first line that was not read yet

  /**
   * The blocks of `given`, in order. What it costs is what was added, where `given` begins with what it was last time: a
   * group is the same as then, unless blocks were added to it or a definition was.
   */
  take(given: string, isGrowing: boolean): readonly Group[] {
    if (!given.startsWith(this.#given)) this.#forget();
    // A carriage return may be half of a line's end.
    const taken = given.endsWith("\r") ? given.length - 1 : given.length;
    this.#text += plain(given.slice(this.#given.length, taken));
    this.#given = given.slice(0, taken);
    this.#split();
    if (isGrowing) return this.#resolve(growingBlocks(this.#text.slice(this.#start)), this.#definitions);
    const groups = this.#finish(plain(given.slice(taken)));
    this.#fullBy = -1; // it knew definitions that may yet grow
    return groups;
  }

  #forget(): void {
    [this.#given, this.#text, this.#done, this.#definitions] = ["", "", [], new Map()];
    [this.#hasFootnotes, this.#start, this.#read, this.#full] = [false, 0, 0, []];
  }

  #finish(rest: string): readonly Group[] {
    const tail = this.#text.slice(this.#start) + rest;
    if (openingAt(tail, 0)) {
      if (!this.#hasFootnotes) return this.#resolve([tail], this.#definitions);
    } else {
      const tree = parse(tail);
      const definitions = collect(tail, [tree], new Map(this.#definitions));
      if (!this.#hasFootnotes && !hasFootnotes(tree)) return this.#resolve(sourcesOf(tail, sectionsOf(tail, tree)), definitions);
    }
    return [[{ source: this.#text + rest, definitions: "", isFence: false }]];
  }

  /** Split off what the whole lines of the text can no longer change. */
  #split(): void {
    const end = this.#text.lastIndexOf("\n") + 1;
    let isOn = true;
    while (isOn && this.#read < end) isOn = openingAt(this.#text, this.#start) ? this.#readFence(end) : this.#readTree(end);
  }

  /** True if the fence that is open was closed. */
  #readFence(end: number): boolean {
    const { start, closing } = openingAt(this.#text, this.#start)!;
    for (this.#read = Math.max(this.#read, start); this.#read < end; ) {
      const line = this.#text.slice(this.#read, this.#text.indexOf("\n", this.#read));
      this.#read += line.length + 1;
      if (closing.test(line)) {
        this.#done.push({ source: this.#text.slice(this.#start, this.#read - 1), labels: new Set() });
        this.#start = this.#read;
        return true;
      }
    }
    return false;
  }

  /** True if the last block is a fence, which is read in its own way. */
  #readTree(end: number): boolean {
    const text = this.#text.slice(this.#start, end);
    const sections = sectionsOf(text, parse(text));
    const open = isClosed(text, sections.at(-1)) ? undefined : sections.pop();
    const closed = sections.flatMap(({ nodes }) => nodes);
    this.#hasFootnotes ||= closed.some(hasFootnotes);
    collect(text, closed, this.#definitions);
    for (const source of sourcesOf(text, sections)) this.#done.push({ source, labels: labelsIn(source) });
    this.#start += open ? open.start : text.length;
    if (open?.nodes.at(-1)?.type === "code" && openingAt(this.#text, this.#start)) return true;
    this.#read = end;
    return false;
  }

  #resolve(tail: readonly string[], definitions: ReadonlyMap<string, string>): readonly Group[] {
    if (definitions.size !== this.#fullBy) [this.#full, this.#fullBy] = [[], definitions.size];
    for (let end = (this.#full.length + 1) * GROUP; end <= this.#done.length; end += GROUP) {
      this.#full.push(this.#done.slice(end - GROUP, end).map((block) => resolve(block, definitions)));
    }
    const open = this.#done.slice(this.#full.length * GROUP);
    const rest = [...open, ...tail.map((source) => ({ source, labels: labelsIn(source) }))];
    const groups = [...this.#full];
    for (let at = 0; at < rest.length; at += GROUP) {
      groups.push(rest.slice(at, at + GROUP).map((block) => resolve(block, definitions)));
    }
    return groups;
  }
}

function resolve({ source, labels }: Done, definitions: ReadonlyMap<string, string>): BlockSource {
  return {
    source,
    definitions: [...labels].map((label) => definitions.get(label) ?? "").join(""),
    isFence: openingAt(source, 0) !== undefined,
  };
}

/** Whether a blank line ended a text's last section for good. Lists, code, HTML and footnotes go on behind one. */
function isClosed(text: string, section: Section | undefined): boolean {
  const last = section?.nodes.at(-1);
  return !last || (CLOSED_BY_BLANK.has(last.type) && hasBlankLine(text.slice(endOf(last))));
}

const CLOSED_BY_BLANK = new Set(["paragraph", "heading", "thematicBreak", "definition", "blockquote", "table"]);

const plain = (text: string): string => text.replace(/\r\n?/g, "\n").replaceAll("\0", "\uFFFD");

/** The definitions in nodes, those known already coming first: the first definition of a label is the one that counts. */
function collect(text: string, nodes: readonly Nodes[], known: Map<string, string>): Map<string, string> {
  for (const node of nodes.flatMap(definitionsIn)) {
    const source = text.slice(startOf(node), endOf(node)).replace(/\n[ \t>]*/g, "\n");
    if (!known.has(node.identifier)) known.set(node.identifier, `${source}\n\n`);
  }
  return known;
}

/** All that may be the label of a reference. */
function labelsIn(source: string): ReadonlySet<string> {
  if (openingAt(source, 0)) return new Set();
  return new Set(
    Array.from(source.matchAll(/\[((?:[^[\]\\]|\\.)+)\]/gs), ([, label]) =>
      label!.replace(/[\t\n >]+/g, " ").trim().toLowerCase().toUpperCase().toLowerCase(),
    ),
  );
}
