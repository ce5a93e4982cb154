import { memo } from "react";

import type { ChatMessage, ChatStatus } from "../react/index.js";
import { KeepSelection } from "./KeepSelection.js";
import { Answer, type AnswerActions } from "./parts/Answer.js";
import { Icon } from "./parts/Icon.js";
import { useFollow } from "./useFollow.js";

const EXAMPLES = ["What is 6 times 7?", "What time is it in Tokyo?", "Show me what Markdown can do", "Give me a long answer"];

interface Props extends AnswerActions {
  readonly messages: readonly ChatMessage[];
  readonly status: ChatStatus;
  readonly onAsk: (text: string) => void;
}

/** The messages. Follows the end as it grows, unless the reader has scrolled away from it. */
export const Conversation = memo(function Conversation({ messages, status, onAsk, ...actions }: Props) {
  const last = messages.at(-1)?.id;
  const { box, isAtEnd, onScroll, onClick, toEnd } = useFollow(last);
  const onLatest = () => {
    toEnd();
    box.current!.focus({ preventScroll: true }); // the button goes away
  };
  return (
    <div
      className="scroller"
      ref={box}
      onScroll={onScroll}
      onClick={onClick}
      tabIndex={0}
      role="region"
      aria-label="Messages"
    >
      <div className="column">
        {!messages.length && <Welcome onAsk={onAsk} />}
        <KeepSelection>
          <ol>
            {messages.map((message) => (
              <Message
                key={message.id}
                message={message}
                status={message.id === last ? status : "ready"}
                {...(message.id === last && actions)}
              />
            ))}
          </ol>
        </KeepSelection>
      </div>
      {!isAtEnd && (
        <div className="latest">
          <button type="button" onClick={onLatest}>
            <Icon name="end" />
            To the latest
          </button>
        </div>
      )}
    </div>
  );
});

interface MessageProps extends Partial<AnswerActions> {
  readonly message: ChatMessage;
  readonly status: ChatStatus;
}

const Message = memo(function Message({ message, ...rest }: MessageProps) {
  return (
    <li className={`message ${message.role}`}>
      <h2 className="hidden">{message.role === "user" ? "You" : "Answer"}</h2>
      {message.role === "user" ? (
        <p className="asked" dir="auto">
          {message.content}
        </p>
      ) : (
        <Answer message={message} {...rest} />
      )}
    </li>
  );
});

function Welcome({ onAsk }: { readonly onAsk: (text: string) => void }) {
  return (
    <section className="welcome">
      <h2>What would you like to know?</h2>
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
