import { useEffect, useState } from "react";

const SHOWN_MS = 1_500;

/** Copies `text`, and says whether it could; `of` tells those who do not see where it stands what it copies. */
export function CopyButton({ text, of }: { readonly text: string; readonly of: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => setSaid(""), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text); // there is no clipboard on a page that came by plain HTTP
      setSaid("Copied");
    } catch {
      setSaid("Not allowed by the browser");
    }
  };
  return (
    <button type="button" onClick={() => void copy()}>
      {said || "Copy"}
      <span className="hidden"> {of}</span>
    </button>
  );
}
