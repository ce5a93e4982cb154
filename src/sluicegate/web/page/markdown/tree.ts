import type { Element, Nodes as HtmlNodes, Root as HtmlRoot } from "hast";
import type { Nodes, Paragraph, PhrasingContent, Root, RootContent } from "mdast";
import type { VFile } from "vfile";

import { endOf, startOf } from "./parse.js";

/**
 * A remark plugin: what the syntax tree is changed to before it is rendered. Every list counts as loose, so that a blank
 * line between two items does not change those above it. Images become links. Raw HTML becomes the text that it is, a
 * line break excepted, which is how people break lines in tables. So does what is nested too deep: browsers lay out by
 * recursion.
 */
export function remarkPlain() {
  return (tree: Root, file: VFile): void => rewrite(tree, String(file), 0, false);
}

const DEEPEST = 32;

function rewrite(node: Nodes, source: string, depth: number, isInLink: boolean): void {
  if (node.type === "list" || node.type === "listItem") node.spread = true;
  if (!("children" in node)) return;
  const isLink = isInLink || node.type === "link" || node.type === "linkReference";
  const isBlock = !PHRASING.has(node.type);
  const children = node.children as RootContent[];
  children.forEach((child, at) => {
    const text = child.type === "html" ? child.value : depth === DEEPEST && deepText(child, source);
    if (text) children[at] = isBlock ? block(text) : inline(text);
    else if (child.type === "image") children[at] = isLink ? word(child.alt) : link(child.url, child.alt);
    else if (child.type === "imageReference") {
      children[at] = isLink ? word(child.alt) : { ...child, type: "linkReference", children: [word(child.alt)] };
    } else rewrite(child, source, NESTED.has(child.type) ? depth + 1 : depth, isLink);
  });
}

const PHRASING = new Set(["paragraph", "heading", "tableCell", "emphasis", "strong", "delete", "link", "linkReference"]);

/** What can hold its own kind. Addresses that the parser found in text hold nothing, and have no position. */
const NESTED = new Set(["blockquote", "list", "footnoteDefinition", "emphasis", "strong", "delete", "link", "linkReference"]);

const deepText = (node: Nodes, source: string): string | false =>
  NESTED.has(node.type) && node.position !== undefined && source.slice(startOf(node), endOf(node));

const inline = (text: string): PhrasingContent => (/^<br\s*\/?>$/i.test(text) ? { type: "break" } : { type: "text", value: text });

const block = (text: string): Paragraph => ({
  type: "paragraph",
  children: [{ type: "text", value: text }],
  data: { hProperties: { className: ["md-html"] } },
});

const word = (alt: string | null | undefined): PhrasingContent => ({ type: "text", value: alt || "image" });
const link = (url: string, alt: string | null | undefined): PhrasingContent => ({ type: "link", url, children: [word(alt)] });

/**
 * A rehype plugin: what the tree of HTML is changed to. The alignment of a cell is a class, not a style; line feeds
 * between blocks are left out; the ids of footnotes begin with `prefix` in the one case where the library's do not.
 */
export function rehypePlain({ prefix }: { readonly prefix: string }) {
  return (tree: HtmlRoot): void => refine(tree, prefix);
}

function refine(node: HtmlRoot | Element, prefix: string): void {
  if (node.type === "element") {
    const { properties } = node;
    if (properties.align) {
      properties.className = [`md-${properties.align}`];
      delete properties.align;
    }
    if (properties.id === "footnote-label") properties.id = prefix + properties.id;
    if (properties.ariaDescribedBy) properties.ariaDescribedBy = [`${prefix}footnote-label`];
  }
  if (node.type === "root" || CONTAINERS.has(node.tagName)) {
    node.children = (node.children as HtmlNodes[]).filter(({ type, ...rest }) => type !== "text" || !isBlank(rest)) as Element[];
  }
  for (const child of node.children) if (child.type === "element") refine(child, prefix);
}

const isBlank = (node: object): boolean => "value" in node && !String(node.value).trim();

const CONTAINERS = new Set(["ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "section"]);
