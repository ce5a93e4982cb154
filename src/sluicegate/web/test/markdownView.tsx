import { renderToStaticMarkup } from "react-dom/server";

import { Markdown, Whole } from "../page/markdown/Markdown.js";

/** The markup of a text, the ids of React and the groups of blocks left out. */
export function markup(text: string, isGrowing: boolean): string {
  return neutral(renderToStaticMarkup(<Markdown text={text} isGrowing={isGrowing} />));
}

/** The markup of the same text by one run of the library, with the line feeds and without the NULs of our own. */
export function wholeMarkup(text: string): string {
  const source = text.replace(/\r\n?/g, "\n").replaceAll("\0", "\uFFFD");
  return neutral(renderToStaticMarkup(<div className="md"><Whole source={source} prefix="_R_0_-" /></div>));
}

export const neutral = (html: string): string =>
  html.replace(/_[Rr]_\w*_-/g, "id-").replace(/(<div class="md">)<div class="md-group">(.*)<\/div>(?=<\/div>$)/s, (_, md, blocks) =>
    md + blocks.replaceAll('</div><div class="md-group">', ""));

/** Each visible character with the names of the elements around it; what is no text but visible counts as one. */
export function visible(html: string): string[] {
  const around: string[] = [];
  const seen: string[] = [];
  for (const [, close, name, rest, text] of html.matchAll(/<(\/?)([a-z0-9]+)([^>]*)>|([^<]+)/g)) {
    if (text !== undefined) {
      const isCode = around.includes("pre");
      const said = text.replace(/&(?:amp|lt|gt|quot|#x27);/g, "&");
      if (isCode || said.trim()) for (const unit of said.split("")) seen.push(`${around.join(" ")}:${unit}`);
    } else if (close) around.pop();
    else if (VOID.has(name!)) seen.push(`${around.join(" ")}:<${name}${rest}>`);
    else around.push(name!);
  }
  return seen;
}

const VOID = new Set(["hr", "br", "input"]);
