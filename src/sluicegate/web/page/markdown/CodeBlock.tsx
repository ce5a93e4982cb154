import { memo, useState } from "react";

import { CopyButton } from "../parts/CopyButton.js";
import { Highlighter, type Chunk } from "./highlight.js";
import { languageOf } from "./languages.js";

/** Code in the colours of its language, with a button that copies it. What is shown of it stays as it is when it grows. */
export const CodeBlock = memo(function CodeBlock({ language, code }: { readonly language: string; readonly code: string }) {
  const { title } = languageOf(language);
  const name = title ? `${title} code` : "code";
  return (
    <figure className="md-code">
      <figcaption>
        <span className="md-language">{title}</span>
        <CopyButton text={code} of={name} />
      </figcaption>
      <pre tabIndex={0} role="group" aria-label={name}>
        <code>
          <Highlighted key={language} language={language} code={code} />
        </code>
      </pre>
    </figure>
  );
});

function Highlighted({ language, code }: { readonly language: string; readonly code: string }) {
  const [highlighter] = useState(() => new Highlighter(languageOf(language)));
  return highlighter.take(code).map((chunk, at) => <Tokens key={at} chunk={chunk} />);
}

// Plain text has its element too: a word that gets a colour with its last letter changes nothing but its class.
const Tokens = memo(function Tokens({ chunk }: { readonly chunk: Chunk }) {
  return chunk.map(({ text, style }, at) => (
    <span key={at} className={style ? `md-${style}` : undefined}>
      {text}
    </span>
  ));
});
