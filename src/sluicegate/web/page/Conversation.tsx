import { memo, useEffect, useRef, useState } from "react";

import type { ChatMessage, ChatStatus } from "../react/index.js";
import { Answer } from "./parts/Answer.js";

const EXAMPLES = ["What is 6 times 7?", "What time is it in Tokyo?", "Show me what Markdown can do", "Give me a long answer"];
const NEAR = 48; // pixels from the end that count as being there

interface Props {
  readonly messages: readonly ChatMessage[];
  readonly status: ChatStatus;
  readonly onRetry: () => void;
  readonly onResume: () => void;
  readonly onAsk: (text: string) => void;
}

/** The messages. Follows the end as it grows, unless the reader has scrolled away from it. */
export function Conversation({ messages, status, onRetry, onResume, onAsk }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [isAtEnd, setAtEnd] = useState(true);
  const follows = useRef(true);
  const count = messages.length;

  useEffect(() => {
    follows.current = true;
  }, [count]);
  useEffect(() => {
    if (follows.current) box.current?.scrollTo({ top: box.current.scrollHeight });
  });

  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current!;
    follows.current = scrollHeight - scrollTop - clientHeight < NEAR;
    setAtEnd(follows.current);
  };
  const last = messages.at(-1)?.id;
  return (
    <div className="conversation" ref={box} onScroll={onScroll} tabIndex={0} role="region" aria-label="Messages">
      {!count && <Welcome onAsk={onAsk} />}
      <ol>
        {messages.map((message) => (
          <Message
            key={message.id}
            message={message}
            status={message.id === last ? status : "ready"}
            onRetry={message.id === last ? onRetry : undefined}
            onResume={message.id === last ? onResume : undefined}
          />
        ))}
      </ol>
      {!isAtEnd && (
        <button type="button" className="latest" onClick={() => box.current?.scrollTo({ top: box.current.scrollHeight })}>
          To the latest
        </button>
      )}
    </div>
  );
}

interface MessageProps {
  readonly message: ChatMessage;
  readonly status: ChatStatus;
  readonly onRetry: (() => void) | undefined;
  readonly onResume: (() => void) | undefined;
}

const Message = memo(function Message({ message, status, onRetry, onResume }: MessageProps) {
  return (
    <li className={`message ${message.role}`}>
      <h2 className="hidden">{message.role === "user" ? "You" : "Answer"}</h2>
      {message.role === "user" ? (
        <p className="asked">{message.content}</p>
      ) : (
        <Answer message={message} status={status} onRetry={onRetry} onResume={onResume} />
      )}
    </li>
  );
});

function Welcome({ onAsk }: { readonly onAsk: (text: string) => void }) {
  return (
    <section className="welcome">
      <p>Ask something. For instance:</p>
      <ul>
        {EXAMPLES.map((text) => (
          <li key={text}>
            <button type="button" onClick={() => onAsk(text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
