import type { ChatMessage, ChatStatus, Part } from "../../react/index.js";
import { Markdown } from "../markdown/Markdown.js";
import { Ended } from "./Ended.js";
import { Reasoning } from "./Reasoning.js";
import { ToolCall } from "./ToolCall.js";

/** What can be done about the last answer. */
export interface AnswerActions {
  readonly onRetry: () => void;
  readonly onEdit: () => void;
  readonly onResume: () => void;
}

interface Props extends Partial<AnswerActions> {
  readonly message: ChatMessage;
  readonly status: ChatStatus;
}

/** An answer: its parts as they come, and how it ended. */
export function Answer({ message, status, ...actions }: Props) {
  const { parts, ending } = message;
  const isGrowing = !ending;
  const hasCursor = isGrowing && /^(text|refusal)$/.test(parts.at(-1)?.type ?? "");
  return (
    <div className={status === "reconnecting" ? "answer lost" : "answer"} aria-busy={isGrowing}>
      {parts.map((part, index) => (
        <PartView key={index} part={part} isGrowing={isGrowing && index === parts.length - 1} />
      ))}
      {ending ? (
        <Ended ending={ending} content={message.content} model={message.model} {...actions} />
      ) : (
        <div className="foot">{!hasCursor && <Waiting />}</div>
      )}
    </div>
  );
}

function PartView({ part, isGrowing }: { readonly part: Part; readonly isGrowing: boolean }) {
  switch (part.type) {
    case "text":
      return (
        <div className={isGrowing ? "text growing" : "text"} dir="auto">
          <Markdown text={part.text} isGrowing={isGrowing} />
        </div>
      );
    case "refusal":
      return (
        <p className={isGrowing ? "refusal growing" : "refusal"} dir="auto">
          {part.text}
        </p>
      );
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

function Waiting() {
  return (
    <p className="waiting" aria-hidden>
      <span />
      <span />
      <span />
    </p>
  );
}
