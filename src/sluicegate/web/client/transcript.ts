import type { CallInfo, Frame, GapInfo, UsageInfo } from "./wire.js";
import type { Failure } from "./errors.js";

/** A part of an answer, in the order in which it began. Frozen in time: a part that grows is another object. */
export type Part =
  | { readonly type: "text" | "reasoning" | "refusal"; readonly step: number; readonly text: string }
  | ToolCallPart
  | { readonly type: "citation"; readonly step: number; readonly citation: unknown }
  | { readonly type: "provider_tool"; readonly step: number; readonly name: string };

/**
 * A tool call. `argumentsText` grows while the model writes; `arguments` is there when it is complete, `fault` says why
 * it never runs; `activity` and `progress` are the running tool's, `result` ends it.
 */
export interface ToolCallPart {
  readonly type: "tool_call";
  readonly step: number;
  readonly id: string;
  readonly name: string;
  readonly argumentsText: string;
  readonly arguments?: unknown;
  readonly fault?: string;
  readonly isRunning: boolean;
  readonly activity?: string;
  readonly progress?: unknown;
  readonly result?: { readonly content: string; readonly isError: boolean };
}

type TextType = "text" | "reasoning" | "refusal";

/** How an answer ended. */
export type Ending =
  | { readonly type: "done"; readonly finishReason: string; readonly usage?: UsageInfo }
  | { readonly type: "error"; readonly failure: Failure; readonly usage?: UsageInfo };

/** Frames of one run to the parts of an answer. Costs the same for each frame, however long the answer is. */
export class Transcript {
  runId = "";
  model = "";
  step = 0;
  ending: Ending | undefined;
  #parts: Part[] = [];
  #places = new Map<string, number>();

  /** Empty, or the copy of one in `step` that has come so far. */
  constructor(begun?: { parts: readonly Part[]; ending?: Ending; model?: string; runId?: string }, step = 0) {
    if (!begun) return;
    [this.runId, this.model, this.step, this.ending] = [begun.runId ?? "", begun.model ?? "", step, begun.ending];
    this.#parts = [...begun.parts];
    this.#parts.forEach((part, at) => part.type === "tool_call" && part.step === step && this.#places.set(part.id, at));
  }

  /** The parts so far; the same objects as last time but for those that grew. */
  get parts(): readonly Part[] {
    return this.#parts.slice();
  }

  take(frame: Frame): void {
    if ("run" in frame) [this.runId, this.model] = [frame.run.id, frame.run.model];
    else if ("step" in frame) {
      this.step = frame.step;
      this.#places.clear(); // ids of calls may come again
    }
    else if ("content" in frame) this.#say("text", frame.content);
    else if ("reasoning" in frame) this.#say("reasoning", frame.reasoning);
    else if ("refusal" in frame) this.#say("refusal", frame.refusal);
    else if ("citation" in frame) this.#parts.push({ type: "citation", step: this.step, citation: frame.citation });
    else if ("provider_tool" in frame) this.#parts.push({ type: "provider_tool", step: this.step, ...frame.provider_tool });
    else if ("tool_call" in frame) this.#call(frame.tool_call);
    else if ("activity" in frame) this.#change(frame.call_id, { isRunning: true, activity: frame.activity });
    else if ("tool_progress" in frame) this.#change(frame.tool_progress.id, { isRunning: true, progress: frame.tool_progress.data });
    else if ("tool_result" in frame) {
      const { id, content, is_error } = frame.tool_result;
      this.#change(id, { isRunning: false, result: { content, isError: is_error ?? false } });
    } else if ("gap" in frame) this.#replace(frame.gap);
    else if ("done" in frame) this.#end({ type: "done", finishReason: frame.finish_reason, usage: frame.usage });
    else if ("error" in frame) {
      const { code, message, retryable = false, retry_after_ms } = frame.error;
      const failure = { code, message, retryable, ...(retry_after_ms ? { retryAfterMs: retry_after_ms } : {}) };
      this.#end({ type: "error", failure, ...(frame.usage && { usage: frame.usage }) });
    } else if ("tool_calls" in frame) this.#start(frame.tool_calls);
    // Whatever else a newer server sends is nothing that this one shows.
  }

  /** The answer failed here: no more frames come. */
  fail(failure: Failure): void {
    this.#end({ type: "error", failure });
  }

  #say(type: TextType, text: string): void {
    const last = this.#parts.at(-1);
    if (last?.type === type && last.step === this.step) {
      this.#parts[this.#parts.length - 1] = { ...last, text: last.text + text };
    } else this.#parts.push({ type, step: this.step, text });
  }

  #call({ id, name, delta, fault, ...rest }: CallInfo): void {
    if (!this.#places.has(id)) {
      this.#places.set(id, this.#parts.length);
      this.#parts.push({ type: "tool_call", step: this.step, id, name: name ?? "", argumentsText: "", isRunning: false });
    }
    const call = this.#parts[this.#places.get(id)!] as ToolCallPart;
    this.#change(id, {
      ...(name && { name }),
      ...(delta && { argumentsText: call.argumentsText + delta }),
      ...("arguments" in rest && { arguments: rest.arguments }),
      ...(fault && { fault }),
    });
  }

  #start(names: readonly string[]): void {
    const left = [...names];
    for (const part of this.#parts) {
      if (part.type !== "tool_call" || part.step !== this.step || part.isRunning || part.result || part.fault) continue;
      if (part.name !== left[0]) continue;
      left.shift();
      this.#change(part.id, { isRunning: true });
    }
  }

  #change(id: string, change: Partial<ToolCallPart>): void {
    const at = this.#places.get(id);
    if (at !== undefined) this.#parts[at] = { ...(this.#parts[at] as ToolCallPart), ...change };
  }

  /** The whole answer so far, in place of what is shown. */
  #replace(gap: GapInfo): void {
    this.#parts = [];
    this.#places.clear();
    this.step = gap.step ?? this.step;
    for (const entry of gap.parts) {
      if (entry.type === "tool_call") {
        const { id, name, delta, arguments: given, fault, activity, progress, result } = entry;
        this.#call({ id, name, delta, ...(given !== undefined && { arguments: given }), fault });
        this.#change(id, {
          isRunning: !result && activity !== undefined,
          ...(activity && { activity }),
          ...(progress !== undefined && { progress }),
          ...(result && { result: { content: result.content, isError: result.is_error ?? false } }),
        });
      } else if (entry.type === "citation" || entry.type === "provider_tool") this.#parts.push({ step: this.step, ...entry });
      else this.#say(entry.type, entry.text);
    }
  }

  #end(ending: Ending): void {
    this.ending ??= ending;
    this.#parts = this.#parts.map((part) => (part.type === "tool_call" && part.isRunning ? { ...part, isRunning: false } : part));
  }
}
