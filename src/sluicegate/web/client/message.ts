import type { RequestMessage, RequestPart } from "./request.js";
import type { Ending, Part, ToolCallPart } from "./transcript.js";

/** One message of a conversation. Never changed: a message that grows is another object, with the same `id`. */
export interface ChatMessage {
  readonly id: string;
  readonly role: "user" | "assistant";
  /** The text of it; of an answer, all of its text joined. */
  readonly content: string;
  /** Of an answer, in the order in which they began. */
  readonly parts: readonly Part[];
  /** Of a user, where there is more than text. */
  readonly attachments?: readonly RequestPart[];
  /** How the answer ended; absent while it comes. */
  readonly ending?: Ending;
  readonly model?: string;
  readonly runId?: string;
}

/**
 * A conversation as `POST /chat` takes it. Of an answer that was cut off goes what has come; a call without a result
 * stays out, since providers refuse every later request of a conversation that has one.
 */
export function toRequest(messages: readonly ChatMessage[]): RequestMessage[] {
  return messages.flatMap((message): RequestMessage[] => {
    if (message.role === "assistant") return answerToRequest(message.parts);
    const { content, attachments } = message;
    return [{ role: "user", content: attachments ? [{ type: "text", text: content }, ...attachments] : content }];
  });
}

function answerToRequest(parts: readonly Part[]): RequestMessage[] {
  const steps = [...new Set(parts.map((part) => part.step))].map((step) => parts.filter((part) => part.step === step));
  return steps.flatMap((step): RequestMessage[] => {
    const content = textOf(step);
    const calls = step.filter((part): part is ToolCallPart => part.type === "tool_call" && part.result !== undefined);
    if (!content && !calls.length) return [];
    const tool_calls = calls.map(({ id, name, arguments: given }) => ({ id, name, arguments: given ?? {} }));
    return [
      { role: "assistant", content, ...(calls.length && { tool_calls }) },
      ...calls.map(({ id, result }): RequestMessage => ({ role: "tool", tool_call_id: id, content: result!.content })),
    ];
  });
}

/** The words that an answer says, refusals included. */
export function textOf(parts: readonly Part[]): string {
  return parts.map((part) => (part.type === "text" || part.type === "refusal" ? part.text : "")).join("");
}
