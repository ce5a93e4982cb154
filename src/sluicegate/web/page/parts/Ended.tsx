import type { Ending } from "../../react/index.js";
import { explain } from "../words.js";

interface Props {
  readonly ending: Ending;
  readonly model: string | undefined;
  readonly onRetry: (() => void) | undefined;
  readonly onResume: (() => void) | undefined;
}

/** How an answer ended: what it cost, or what went wrong and what to do. */
export function Ended({ ending, model, onRetry, onResume }: Props) {
  if (ending.type === "done") {
    return (
      <p className="usage">
        {ending.finishReason === "length" && <strong>Cut off at the longest that is allowed. </strong>}
        <Usage ending={ending} model={model} />
      </p>
    );
  }
  const { title, advice } = explain(ending.failure);
  const isStopped = ending.failure.code === "CANCELLED";
  return (
    <div className={isStopped ? "ended stopped" : "ended failed"}>
      <p>
        <strong>{title}.</strong> {advice}
      </p>
      {!isStopped && <p className="detail">{ending.failure.message}</p>}
      <div className="actions">
        {ending.failure.code === "CONNECTION_LOST" && onResume && (
          <button type="button" onClick={onResume}>
            Read on
          </button>
        )}
        {onRetry && (
          <button type="button" onClick={onRetry}>
            Try again
          </button>
        )}
      </div>
      <p className="usage">
        <Usage ending={ending} model={model} />
      </p>
    </div>
  );
}

function Usage({ ending: { usage }, model }: Pick<Props, "ending" | "model">) {
  if (!usage) return null;
  const about = usage.estimated ? "about " : "";
  const cached = usage.cached_tokens ? ` (${count(usage.cached_tokens)} cached)` : "";
  const tokens = `${about}${count(usage.input_tokens)} tokens in${cached}, ${count(usage.output_tokens)} out`;
  const cost = usage.cost == null ? "" : about + DOLLARS.format(usage.cost);
  return <>{[model, tokens, cost].filter(Boolean).join(" · ")}</>;
}

const DOLLARS = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumSignificantDigits: 2 });
const count = (tokens: number) => tokens.toLocaleString("en");
