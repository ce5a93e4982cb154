import type { Definition, Nodes, Root, RootContent } from "mdast";
import remarkGfm from "remark-gfm";
import remarkParse from "remark-parse";
import { unified, type PluggableList } from "unified";

import { remarkTasks } from "./tasks.js";

/** GitHub's Markdown, save that one tilde strikes nothing: models write "~5 to ~10". */
export const GFM: PluggableList = [[remarkGfm, { singleTilde: false }], remarkTasks];

const parser = unified().use(remarkParse).use(GFM).freeze();

/** The syntax tree of a text, as the component that renders it reads it too. */
export const parse = (text: string): Root => parser.parse(text);

export const startOf = (node: Nodes): number => node.position!.start.offset!;
export const endOf = (node: Nodes): number => node.position!.end.offset!;

/** A part of a text that can be read on its own: one top-level node, or a few that depend on each other. */
export interface Section {
  readonly start: number;
  readonly end: number;
  readonly nodes: readonly RootContent[];
}

/**
 * The sections of a text, which begin with lines. What the parser may read otherwise behind the node before it stays with
 * that one: right below a paragraph or a definition "2)" begins no list, as it does at the beginning of a text; and behind
 * indented code "*" alone begins none.
 */
export function sectionsOf(text: string, { children }: Root): Section[] {
  const sections: Section[] = [];
  for (const node of children) {
    const section = sections.at(-1);
    const before = section?.nodes.at(-1);
    if (section && before && isBound(text, before, node)) {
      sections[sections.length - 1] = { start: section.start, end: endOf(node), nodes: [...section.nodes, node] };
    } else sections.push({ start: text.lastIndexOf("\n", startOf(node) - 1) + 1, end: endOf(node), nodes: [node] });
  }
  return sections;
}

function isBound(text: string, before: RootContent, node: RootContent): boolean {
  if (node.type !== "paragraph" && node.type !== "list" && node.type !== "blockquote") return false;
  if (before.type === "code") return !/[`~]/.test(text[startOf(before)]!);
  return (before.type === "paragraph" || before.type === "definition") && !hasBlankLine(text.slice(endOf(before), startOf(node)));
}

export const hasBlankLine = (text: string): boolean => /\n[ \t]*\n/.test(text);

/** All definitions of links in a tree, wherever they are nested, in order. */
export function definitionsIn(node: Nodes): Definition[] {
  if (node.type === "definition") return [node];
  return "children" in node ? node.children.flatMap(definitionsIn) : [];
}

/** Whether footnotes are defined in a tree. They are numbered through a whole text, and shown at its end. */
export function hasFootnotes(node: Nodes): boolean {
  return node.type === "footnoteDefinition" || ("children" in node && node.children.some(hasFootnotes));
}
