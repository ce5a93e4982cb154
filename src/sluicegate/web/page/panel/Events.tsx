import { memo } from "react";

import type { LoggedFrame } from "../eventLog.js";

const SHOWN = 200;

/** The newest frames, newest first. */
export const Events = memo(function Events({ frames }: { readonly frames: readonly LoggedFrame[] }) {
  return (
    <section className="events" aria-label="Frames">
      <h3>Frames</h3>
      {!frames.length && <p className="note">None yet.</p>}
      <ol tabIndex={0} aria-label="The newest frames, newest first">
        {frames
          .slice(-SHOWN)
          .reverse()
          .map((frame) => (
            <Event key={frame.number} logged={frame} />
          ))}
      </ol>
    </section>
  );
});

const Event = memo(function Event({ logged: { number, at, frame } }: { readonly logged: LoggedFrame }) {
  return (
    <li>
      <span className="when">
        {number} · {(at / 1000).toFixed(3)} s
      </span>
      <code>{JSON.stringify(frame)}</code>
    </li>
  );
});
