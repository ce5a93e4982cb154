import { useState, type KeyboardEvent, type RefObject, type SyntheticEvent } from "react";

interface Props {
  readonly input: RefObject<HTMLTextAreaElement | null>;
  readonly isStreaming: boolean;
  readonly status: string;
  /** Resolves to false if nothing was sent. */
  readonly onSend: (text: string) => Promise<boolean>;
  readonly onStop: () => void;
}

/** Where one asks: Enter sends, Shift+Enter is a new line, Escape stops. The focus stays where it is. */
export function Composer({ input, isStreaming, status, onSend, onStop }: Props) {
  const [text, setText] = useState("");
  const [isRefused, setRefused] = useState(false);
  const isEmpty = !text.trim();
  const send = (event: SyntheticEvent) => {
    event.preventDefault();
    if (isEmpty || isStreaming) return;
    void onSend(text.trim()).then((isSent) => {
      if (isSent) return;
      setRefused(true);
      setText((typed) => typed || text);
    });
    setRefused(false);
    setText("");
    input.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) send(event);
  };
  return (
    <form className="composer" onSubmit={send}>
      <p className="status" aria-hidden>
        {status}
      </p>
      <p className="refused" role="alert">
        {isRefused && "Another tab asked first. Your question was not sent, and is still here."}
      </p>
      <div className="field">
        <label className="hidden" htmlFor="question">
          Your message
        </label>
        <textarea
          id="question"
          ref={input}
          rows={1}
          autoFocus
          enterKeyHint="send"
          value={text}
          placeholder="Ask something"
          onChange={(event) => setText(event.target.value)}
          onKeyDown={onKeyDown}
        />
        {/* One button, so that the focus of who pressed it is not lost. */}
        <button
          className={isStreaming ? "primary stop" : "primary"}
          type={isStreaming ? "button" : "submit"}
          aria-disabled={!isStreaming && isEmpty}
          onClick={isStreaming ? onStop : undefined}
        >
          {isStreaming ? "Stop" : "Send"}
        </button>
      </div>
    </form>
  );
}
