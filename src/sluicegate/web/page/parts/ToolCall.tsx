import type { ToolCallPart } from "../../react/index.js";

/** A tool call: its arguments as the model writes them, what the tool reports, and its result. */
export function ToolCall({ call }: { readonly call: ToolCallPart }) {
  const state = stateOf(call);
  return (
    <details className={`tool ${state}`} open={state === "writing" || state === "running" || undefined}>
      <summary>
        <span className="tool-name">{call.name || "A tool"}</span>
        <span className="tool-state">{call.activity && state === "running" ? call.activity : WORDS[state]}</span>
      </summary>
      <dl>
        <dt>Arguments</dt>
        <dd>
          <pre tabIndex={0}>{"arguments" in call ? readable(call.arguments) : call.argumentsText || " "}</pre>
        </dd>
        {call.progress !== undefined && (
          <>
            <dt>Progress</dt>
            <dd>
              <pre tabIndex={0}>{readable(call.progress)}</pre>
            </dd>
          </>
        )}
        {call.result && (
          <>
            <dt>{call.result.isError ? "Error" : "Result"}</dt>
            <dd>
              <pre tabIndex={0}>{call.result.content}</pre>
            </dd>
          </>
        )}
      </dl>
    </details>
  );
}

const SHORT = 72; // characters that stay on one line, as they were while the model wrote them

function readable(json: unknown): string {
  const line = JSON.stringify(json);
  return line.length > SHORT ? JSON.stringify(json, null, 2) : line;
}

type State = "writing" | "ready" | "running" | "done" | "failed" | "broken";

const WORDS: Record<State, string> = {
  writing: "writing arguments…",
  ready: "not run",
  running: "running…",
  done: "done",
  failed: "failed",
  broken: "broken: never run",
};

function stateOf({ fault, result, isRunning, ...call }: ToolCallPart): State {
  if (fault) return "broken";
  if (result) return result.isError ? "failed" : "done";
  if (isRunning) return "running";
  return "arguments" in call ? "ready" : "writing";
}
