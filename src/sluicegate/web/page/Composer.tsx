import { useState, type KeyboardEvent, type RefObject, type SyntheticEvent } from "react";

import { isTouch } from "./isTouch.js";
import { Icon } from "./parts/Icon.js";

interface Props {
  readonly input: RefObject<HTMLTextAreaElement | null>;
  readonly draft: string;
  readonly setDraft: (text: string) => void;
  readonly isStreaming: boolean;
  readonly status: string;
  /** Resolves to false if nothing was sent. */
  readonly onSend: (text: string) => Promise<boolean>;
  readonly onStop: () => void;
}

const COMPOSING = 229; // Safari's code of the key that ends a composition; what it ended is over by then

/** Where one asks: Enter sends, Shift+Enter is a new line. One can write on while an answer comes. */
export function Composer({ input, draft, setDraft, isStreaming, status, onSend, onStop }: Props) {
  const [isRefused, setRefused] = useState(false);
  const isEmpty = !draft.trim();
  const send = (event: SyntheticEvent) => {
    event.preventDefault();
    if (isEmpty || isStreaming) return;
    void onSend(draft.trim()).then((isSent) => {
      if (isSent) return;
      setRefused(true);
      setDraft(input.current?.value || draft);
    });
    setRefused(false);
    setDraft("");
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const isComposing = event.nativeEvent.isComposing || event.keyCode === COMPOSING;
    if (event.key === "Enter" && !event.shiftKey && !isComposing) send(event);
  };
  return (
    <form className="composer" onSubmit={send}>
      <p className="status" aria-hidden>
        {status}
      </p>
      {isRefused && (
        <p className="refused" role="alert">
          Another tab asked first. Your question was not sent, and is still here.
        </p>
      )}
      <div className="field">
        <label className="hidden" htmlFor="question">
          Your message
        </label>
        <textarea
          id="question"
          ref={input}
          rows={1}
          dir="auto"
          autoFocus={!isTouch()}
          enterKeyHint="send"
          value={draft}
          placeholder="Ask something"
          onChange={(event) => setDraft(event.target.value)}
          onKeyDown={onKeyDown}
        />
        {/* One button, so that the focus of who pressed it is not lost. */}
        <button
          className={isStreaming ? "primary stop" : "primary"}
          type={isStreaming ? "button" : "submit"}
          title={isStreaming ? "Stop (Escape)" : "Send (Enter)"}
          aria-disabled={!isStreaming && isEmpty}
          onClick={isStreaming ? onStop : undefined}
        >
          <Icon name={isStreaming ? "stop" : "send"} />
          <span className="label">{isStreaming ? "Stop" : "Send"}</span>
        </button>
      </div>
    </form>
  );
}
