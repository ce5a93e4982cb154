/* Made from specs/wire.schema.json by npm run wire; do not edit. */

/**
 * The data of one frame of sluicegate's native wire ([DONE] aside).
 */
export type Frame =
  | RunFrame
  | StepFrame
  | ContentFrame
  | ReasoningFrame
  | RefusalFrame
  | CitationFrame
  | CallFrame
  | ToolsFrame
  | ActivityFrame
  | ProgressFrame
  | ResultFrame
  | ProviderToolFrame
  | TraceFrame
  | GapFrame
  | DoneFrame
  | ErrorFrame;
/**
 * The two state machines of a run.
 */
export type Machine = "reply" | "run";
/**
 * Why a reply ended, in one vocabulary for all providers.
 */
export type FinishReason = "content_filter" | "context_length" | "length" | "pause" | "stop" | "tool_calls";
/**
 * The codes that clients see on every wire. They never change their meaning.
 */
export type ErrorCode =
  | "BUDGET_EXCEEDED"
  | "CANCELLED"
  | "CONTENT_FILTER"
  | "CONTEXT_LENGTH"
  | "INTERNAL"
  | "INVALID_REQUEST"
  | "OVERLOADED"
  | "RATE_LIMITED"
  | "REPLICA_LOST"
  | "SHUTTING_DOWN"
  | "TIMEOUT"
  | "TOOL_LOOP"
  | "UNAUTHORIZED"
  | "UPSTREAM_ERROR";

/**
 * First frame of a run.
 */
export interface RunFrame {
  run: RunInfo;
}
export interface RunInfo {
  id: string;
  model: string;
}
/**
 * A request goes to the model; steps count from 1.
 */
export interface StepFrame {
  step: number;
}
/**
 * More text of the answer.
 */
export interface ContentFrame {
  content: string;
}
/**
 * More of the model's reasoning.
 */
export interface ReasoningFrame {
  reasoning: string;
}
/**
 * More of the words in which the model refuses.
 */
export interface RefusalFrame {
  refusal: string;
}
/**
 * A source for the text before it, in the provider's own JSON.
 */
export interface CitationFrame {
  citation: unknown;
}
export interface CallFrame {
  tool_call: CallInfo;
}
/**
 * A tool call grows: first with `name`, then with pieces of its arguments, last with all of them.
 *
 * `fault` says that the call is broken and never runs: `truncated` or `malformed`.
 */
export interface CallInfo {
  id: string;
  name?: string;
  delta?: string;
  arguments?: unknown;
  fault?: string;
}
/**
 * Tools start, by name, in the order of their calls.
 */
export interface ToolsFrame {
  tool_calls: string[];
}
/**
 * What a tool is about to do, in words for people.
 */
export interface ActivityFrame {
  activity: string;
  call_id: string;
}
/**
 * A tool reports on its way.
 */
export interface ProgressFrame {
  tool_progress: ProgressInfo;
}
export interface ProgressInfo {
  id: string;
  name: string;
  data: unknown;
}
/**
 * A tool ended; `content` is what the model sees.
 */
export interface ResultFrame {
  tool_result: ResultInfo;
}
export interface ResultInfo {
  id: string;
  name: string;
  content: string;
  is_error?: boolean;
}
/**
 * The provider runs something itself, such as a web search.
 */
export interface ProviderToolFrame {
  provider_tool: ProviderToolInfo;
}
export interface ProviderToolInfo {
  name: string;
}
/**
 * A state machine of the run is in another state. Only where the operator allows it.
 */
export interface TraceFrame {
  trace: TraceInfo;
}
/**
 * `machine` is `run` or `reply`; its states and symbols are those of specs/tables.md.
 */
export interface TraceInfo {
  machine: Machine;
  from: string;
  symbol: string;
  to: string;
}
/**
 * Frames are gone from the log; this is what they amounted to.
 */
export interface GapFrame {
  gap: GapInfo;
}
/**
 * `after` is the last frame that the reader had, `until` the last one of those that are gone. `parts` is the whole
 * answer up to there, not only what was missed: it takes the place of what the reader has.
 */
export interface GapInfo {
  after: number;
  until: number;
  parts: (TextEntry | ReasoningEntry | RefusalEntry | CitationEntry | ProviderToolEntry | CallEntry)[];
  step?: number;
  run?: unknown;
}
/**
 * Text of the answer.
 */
export interface TextEntry {
  type: "text";
  text: string;
}
/**
 * The model's reasoning.
 */
export interface ReasoningEntry {
  type: "reasoning";
  text: string;
}
/**
 * The words in which the model refuses.
 */
export interface RefusalEntry {
  type: "refusal";
  text: string;
}
/**
 * A source for the text before it.
 */
export interface CitationEntry {
  type: "citation";
  citation: unknown;
}
/**
 * The provider ran something itself.
 */
export interface ProviderToolEntry {
  type: "provider_tool";
  name: string;
}
/**
 * A tool call: `delta` is what has come of its arguments until `arguments` or `fault` says how they ended;
 * `progress` is the tool's latest.
 */
export interface CallEntry {
  type: "tool_call";
  id: string;
  name?: string;
  delta?: string;
  arguments?: unknown;
  fault?: string;
  activity?: string;
  progress?: unknown;
  result?: ResultEntry | null;
}
/**
 * What a tool gave.
 */
export interface ResultEntry {
  content: string;
  is_error?: boolean;
}
/**
 * Terminal: the model answered. `[DONE]` follows.
 */
export interface DoneFrame {
  done: boolean;
  finish_reason: FinishReason;
  usage: UsageInfo;
}
export interface UsageInfo {
  input_tokens: number;
  output_tokens: number;
  cached_tokens?: number;
  cache_write_tokens?: number;
  reasoning_tokens?: number;
  estimated?: boolean;
  cost?: number | null;
}
/**
 * Terminal: the run failed or was cancelled. `[DONE]` follows.
 */
export interface ErrorFrame {
  error: ErrorInfo;
  usage?: UsageInfo | null;
}
/**
 * `message` may be shown to people. `truncated`: the provider's stream broke off.
 */
export interface ErrorInfo {
  code: ErrorCode;
  message: string;
  retryable?: boolean;
  retry_after_ms?: number | null;
  truncated?: boolean;
}
