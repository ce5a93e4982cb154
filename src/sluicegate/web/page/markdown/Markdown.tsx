import { memo, useId, useMemo, useState } from "react";
import ReactMarkdown from "react-markdown";
import type { PluggableList } from "unified";

import { Blocks, type BlockSource, type Group } from "./blocks.js";
import { CodeBlock } from "./CodeBlock.js";
import { COMPONENTS, safeUrl } from "./elements.js";
import { fenceOf } from "./fence.js";
import { GFM } from "./parse.js";
import { Plain } from "./Plain.js";
import { rehypePlain, remarkPlain } from "./tree.js";

/**
 * An answer in GitHub's Markdown that may still grow. Blocks that are complete are neither parsed nor rendered again, and
 * what is shown stays as it is: see `Blocks` and `growingBlocks`. Once `isGrowing` is false, all of the text is shown. Raw
 * HTML is shown as text, images as links, and links lead nowhere but to http, https and mailto. No text makes it throw:
 * what the libraries cannot read, such as what is nested too deep for their recursion, is shown as it came.
 */
export const Markdown = memo(function Markdown({ text, isGrowing }: Props) {
  return (
    <div className="md">
      <Plain text={text}>
        <AllBlocks text={text} isGrowing={isGrowing} />
      </Plain>
    </div>
  );
});

interface Props {
  readonly text: string;
  readonly isGrowing: boolean;
}

function AllBlocks({ text, isGrowing }: Props) {
  const [blocks] = useState(() => new Blocks());
  const prefix = `${useId()}-`;
  return blocks.take(text, isGrowing).map((group, at) => <GroupOfBlocks key={at} group={group} prefix={prefix} />);
}

const GroupOfBlocks = memo(function GroupOfBlocks({ group, prefix }: { readonly group: Group; readonly prefix: string }) {
  return (
    <div className="md-group">
      {group.map((block, at) => (
        <Plain key={at} text={block.source}>
          <Block {...block} prefix={prefix} />
        </Plain>
      ))}
    </div>
  );
});

const Block = memo(function Block({ source, definitions, isFence, prefix }: BlockSource & { readonly prefix: string }) {
  const fence = isFence ? fenceOf(source) : undefined;
  return fence ? <CodeBlock {...fence} /> : <Whole source={definitions + source} prefix={prefix} />;
});

/** Any Markdown at once. `prefix` begins the ids of its footnotes. */
export function Whole({ source, prefix }: { readonly source: string; readonly prefix: string }) {
  const options = useMemo(
    () => ({
      remarkPlugins: [...GFM, remarkPlain] satisfies PluggableList,
      rehypePlugins: [[rehypePlain, { prefix }]] satisfies PluggableList,
      remarkRehypeOptions: { clobberPrefix: prefix },
      urlTransform: (url: string) => safeUrl(url, prefix),
    }),
    [prefix],
  );
  return (
    <ReactMarkdown {...options} components={COMPONENTS}>
      {source}
    </ReactMarkdown>
  );
}
