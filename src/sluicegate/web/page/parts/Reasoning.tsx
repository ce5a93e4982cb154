/** What the model thinks, folded. */
export function Reasoning({ text, isGrowing }: { readonly text: string; readonly isGrowing: boolean }) {
  return (
    <details className="reasoning">
      <summary>{isGrowing ? "Thinking…" : "Thought about it"}</summary>
      <p>{text}</p>
    </details>
  );
}
