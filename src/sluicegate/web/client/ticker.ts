const HIDDEN_MS = 250; // a hidden page has no frames, but its title and its other listeners go on

/** Return a function that has `work` done once in the next frame of the display, however often it is called before. */
export function inNextFrame(work: () => void): () => void {
  let isDue = false;
  const now = () => {
    isDue = false;
    work();
  };
  return () => {
    if (isDue) return;
    isDue = true;
    if (typeof requestAnimationFrame === "undefined" || document.hidden) setTimeout(now, HIDDEN_MS);
    else requestAnimationFrame(now);
  };
}
