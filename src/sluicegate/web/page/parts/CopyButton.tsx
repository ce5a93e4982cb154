import { useEffect, useState } from "react";

const SHOWN_MS = 1_500;

/** Copies `text`. */
export function CopyButton({ text, of = "answer" }: { readonly text: string; readonly of?: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => setSaid(""), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = () =>
    navigator.clipboard.writeText(text).then(
      () => setSaid("Copied"),
      () => setSaid("Not allowed by the browser"),
    );
  return (
    <button type="button" onClick={() => void copy()}>
      {said || "Copy"}
      <span className="hidden"> {of}</span>
    </button>
  );
}
