import type { Ending } from "../../react/index.js";
import { explain } from "../words.js";
import type { AnswerActions } from "./Answer.js";
import { CopyButton } from "./CopyButton.js";

interface Props extends Partial<AnswerActions> {
  readonly ending: Ending;
  /** The text of the answer. */
  readonly content: string;
  readonly model: string | undefined;
}

/** How an answer ended: what it cost, or what went wrong, and what can be done. */
export function Ended({ ending, content, model, onRetry, onEdit, onResume }: Props) {
  const usage = (
    <p className="usage">
      <Usage ending={ending} model={model} />
    </p>
  );
  const buttons = (
    <>
      {onRetry && (
        <button type="button" onClick={onRetry}>
          {ending.type === "done" ? "Ask again" : "Try again"}
        </button>
      )}
      {onEdit && (
        <button type="button" onClick={onEdit}>
          Edit<span className="hidden"> the question</span>
        </button>
      )}
      {content && <CopyButton of="answer" text={content} />}
    </>
  );
  if (ending.type === "done") {
    return (
      <>
        {ending.finishReason === "length" && <p className="note">Cut off at the longest that is allowed.</p>}
        <div className="foot">
          {buttons}
          {usage}
        </div>
      </>
    );
  }
  const { code, message } = ending.failure;
  const { title, advice } = explain(ending.failure);
  const hasDetail = code !== "CANCELLED" && message !== `${title}.`;
  return (
    <div className={code === "CANCELLED" ? "ended stopped" : "ended failed"}>
      <p>
        <strong>{title}.</strong> {advice}
      </p>
      {hasDetail && <p className="detail">{message}</p>}
      <div className="actions">
        {code === "CONNECTION_LOST" && onResume && (
          <button type="button" onClick={onResume}>
            Read on
          </button>
        )}
        {buttons}
      </div>
      {usage}
    </div>
  );
}

function Usage({ ending: { usage }, model }: Pick<Props, "ending" | "model">) {
  if (!usage) return null;
  const about = usage.estimated ? "about " : "";
  const cached = usage.cached_tokens ? ` (${count(usage.cached_tokens)} cached)` : "";
  const unit = usage.input_tokens === 1 ? "token" : "tokens";
  const tokens = `${about}${count(usage.input_tokens)} ${unit} in${cached}, ${count(usage.output_tokens)} out`;
  const cost = usage.cost == null ? "" : about + DOLLARS.format(usage.cost);
  return <>{[model, tokens, cost].filter(Boolean).join(" · ")}</>;
}

const DOLLARS = new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumSignificantDigits: 2 });
const count = (tokens: number) => tokens.toLocaleString("en");
