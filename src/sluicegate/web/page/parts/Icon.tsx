const PATHS = {
  new: "M12 5v14M5 12h14",
  settings: "M4 7h9M19 7h1M4 17h1M11 17h9M16 4.5v5M8 14.5v5",
  inside: "M8 5l-5 7 5 7M16 5l5 7-5 7",
  send: "M12 20V5M5 12l7-7 7 7",
  stop: "M7 7h10v10H7z",
  end: "M12 5v14M5 12l7 7 7-7",
};

/** A picture beside or in place of a button's words, which it has all the same. */
export function Icon({ name }: { readonly name: keyof typeof PATHS }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden>
      <path d={PATHS[name]} />
    </svg>
  );
}
