import type { Element } from "hast";
import type { Components } from "react-markdown";

import { CodeBlock } from "./CodeBlock.js";

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/** An address that a link may have: absolute, of a scheme that runs nothing; or a footnote of the same text. Else "". */
export function safeUrl(url: string, prefix: string): string {
  if (url.startsWith(`#${prefix}`)) return url;
  return URL.canParse(url) && SCHEMES.has(new URL(url).protocol) ? url : "";
}

/** How the elements are shown that have more to them than their tag. */
export const COMPONENTS: Components = {
  a: ({ node: _, href, children, ...rest }) => {
    if (!href) return <span className="md-no-link">{children}</span>;
    if (href.startsWith("#")) return <a {...rest} href={href}>{children}</a>;
    return <a href={href} rel="noopener noreferrer" target="_blank">{children}</a>;
  },
  input: ({ checked }) => <input type="checkbox" checked={checked} disabled aria-label={checked ? "Done" : "To do"} />,
  pre: ({ node }) => {
    const code = node?.children[0] as Element;
    const name = (code.properties.className as string[] | undefined)?.[0] ?? "";
    const text = code.children[0]?.type === "text" ? code.children[0].value : "";
    return <CodeBlock language={name.replace(/^language-/, "")} code={text.replace(/\n$/, "")} />;
  },
  table: ({ children }) => (
    <div className="md-table" role="group" aria-label="Table" tabIndex={0}>
      <table>{children}</table>
    </div>
  ),
};
