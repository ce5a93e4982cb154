import type { ChatMessage, ChatStatus, Part } from "../../react/index.js";
import { Markdown } from "../markdown/Markdown.js";
import { CopyButton } from "./CopyButton.js";
import { Ended } from "./Ended.js";
import { Reasoning } from "./Reasoning.js";
import { ToolCall } from "./ToolCall.js";

interface Props {
  readonly message: ChatMessage;
  readonly status: ChatStatus;
  readonly onRetry: (() => void) | undefined;
  readonly onResume: (() => void) | undefined;
}

/** An answer: its parts as they come, and how it ended. */
export function Answer({ message, status, onRetry, onResume }: Props) {
  const { parts, ending, content } = message;
  const isGrowing = !ending;
  return (
    <div className="answer" aria-busy={isGrowing}>
      {parts.map((part, index) => (
        <PartView key={index} part={part} isGrowing={isGrowing && index === parts.length - 1} />
      ))}
      {isGrowing && <Cursor isWaiting={!parts.length} status={status} />}
      {ending && <Ended ending={ending} model={message.model} onRetry={onRetry} onResume={onResume} />}
      {ending && content && (
        <div className="actions">
          <CopyButton text={content} />
          {onRetry && ending.type === "done" && (
            <button type="button" onClick={onRetry}>
              Ask again
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function PartView({ part, isGrowing }: { readonly part: Part; readonly isGrowing: boolean }) {
  switch (part.type) {
    case "text":
      return <Markdown text={part.text} isGrowing={isGrowing} />;
    case "refusal":
      return <p className="refusal">{part.text}</p>;
    case "reasoning":
      return <Reasoning text={part.text} isGrowing={isGrowing} />;
    case "tool_call":
      return <ToolCall call={part} />;
    case "provider_tool":
      return <p className="note">The provider uses {part.name}.</p>;
    case "citation":
      return null; // in each provider's own form: shown raw under the hood
  }
}

function Cursor({ isWaiting, status }: { readonly isWaiting: boolean; readonly status: ChatStatus }) {
  if (!isWaiting) return <span className={status === "reconnecting" ? "cursor lost" : "cursor"} aria-hidden />;
  return (
    <p className="waiting" aria-hidden>
      <span />
      <span />
      <span />
    </p>
  );
}
