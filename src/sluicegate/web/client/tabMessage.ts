import type { ChatStatus, ConversationState } from "./conversation.js";
import type { ResumeToken } from "./stream.js";
import type { Frame } from "./wire.js";

/** Of the messages below. Tabs of different versions do not hear each other: it is in the name of what they share. */
export const VERSION = 1;

/**
 * What the tabs of one conversation tell each other. `term` counts the readers of it, so what one of an earlier term
 * says is old. `state` comes from the reader where `isReader`; with `to` it answers that tab's `hello`.
 */
export type TabMessage = { readonly from: string } & (
  | { readonly type: "hello" | "ping" }
  | { readonly type: "stop"; readonly answer: string }
  | { readonly type: "state"; readonly term: number; readonly isReader: boolean; readonly to?: string; readonly state: ConversationState }
  | { readonly type: "frame"; readonly term: number; readonly frame: Frame; readonly token: ResumeToken }
  | { readonly type: "status"; readonly term: number; readonly status: ChatStatus }
);

type Check = (value: unknown) => boolean;

const isText: Check = (value) => typeof value === "string";
const isNumber: Check = (value) => typeof value === "number";
const isFlag: Check = (value) => typeof value === "boolean";
const isAnything: Check = () => true;
const isOne = (...known: string[]): Check => (value) => known.includes(value as string);
const isAbsentOr = (check: Check): Check => (value) => value === undefined || check(value);
const isListOf = (check: Check): Check => (value) => Array.isArray(value) && value.every(check);
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const has = (fields: Record<string, Check>): Check => (value) =>
  isRecord(value) && Object.entries(fields).every(([name, check]) => check(value[name]));
const isVariant = (key: string, kinds: Record<string, Check>): Check => (value) =>
  isRecord(value) && isText(value[key]) && Object.hasOwn(kinds, value[key] as string) && kinds[value[key] as string]!(value);

const isToken = has({ key: isText, after: isText, request: isAbsentOr(has({ messages: isListOf(isRecord) })) });
const isStatus = isOne("ready", "queued", "connecting", "waiting", "streaming", "reconnecting");
const isSaid = has({ step: isNumber, text: isText });
const isPart = isVariant("type", {
  text: isSaid,
  reasoning: isSaid,
  refusal: isSaid,
  tool_call: has({
    step: isNumber,
    id: isText,
    name: isText,
    argumentsText: isText,
    fault: isAbsentOr(isText),
    isRunning: isFlag,
    activity: isAbsentOr(isText),
    result: isAbsentOr(has({ content: isText, isError: isFlag })),
  }),
  citation: has({ step: isNumber }),
  provider_tool: has({ step: isNumber, name: isText }),
});
const isUsage = isAbsentOr(has({ input_tokens: isNumber, output_tokens: isNumber }));
const isEnding = isVariant("type", {
  done: has({ finishReason: isText, usage: isUsage }),
  error: has({ failure: has({ code: isText, message: isText, retryable: isFlag }), usage: isUsage }),
});
const isMessage = has({
  id: isText,
  role: isOne("user", "assistant"),
  content: isText,
  parts: isListOf(isPart),
  attachments: isAbsentOr(isListOf(isRecord)),
  ending: isAbsentOr(isEnding),
  model: isAbsentOr(isText),
  runId: isAbsentOr(isText),
});
const isState = has({
  messages: isListOf(isMessage),
  status: isStatus,
  answer: isAbsentOr(has({ id: isText, step: isNumber, token: isToken })),
});
const isKnown = isVariant("type", {
  hello: isAnything,
  ping: isAnything,
  stop: has({ answer: isText }),
  state: has({ term: isNumber, isReader: isFlag, to: isAbsentOr(isText), state: isState }),
  frame: has({ term: isNumber, frame: isRecord, token: isToken }),
  status: has({ term: isNumber, status: isStatus }),
});

/** What was heard on a channel, undefined if it is none of the messages above. */
export function check(heard: unknown): TabMessage | undefined {
  return isRecord(heard) && isText(heard.from) && isKnown(heard) ? (heard as unknown as TabMessage) : undefined;
}
