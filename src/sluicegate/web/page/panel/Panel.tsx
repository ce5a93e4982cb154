import { useMemo, useSyncExternalStore } from "react";

import reply from "../../../../../specs/reply.mmd?raw";
import run from "../../../../../specs/run.mmd?raw";
import type { EventLog, LoggedFrame } from "../eventLog.js";
import { diagramOf } from "./diagram.js";
import { Events } from "./Events.js";
import { Machine, type Transition } from "./Machine.js";

const MACHINES = [
  ["Run", "run", diagramOf(run)],
  ["Reply", "reply", diagramOf(reply)],
] as const;

/** What goes on inside: the two state machines, and the frames as they came. */
export function Panel({ log, onClose }: { readonly log: EventLog; readonly onClose: () => void }) {
  const frames = useSyncExternalStore(log.subscribe, log.snapshot);
  const last = useMemo(() => lastTransitions(frames), [frames]);
  return (
    <aside className="panel" aria-label="Inside">
      <div className="bar">
        <h2>Inside</h2>
        <span className="space" />
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
      {frames.length > 0 && !last.size && (
        <p className="note">This service does not tell its transitions (the setting service.trace allows it).</p>
      )}
      {MACHINES.map(([name, key, diagram]) => (
        <Machine key={key} name={name} diagram={diagram} last={last.get(key)} />
      ))}
      <Events frames={frames} />
    </aside>
  );
}

function lastTransitions(frames: readonly LoggedFrame[]): Map<string, Transition> {
  const found = new Map<string, Transition>();
  for (const { frame } of frames) {
    if ("trace" in frame) found.set(frame.trace.machine, frame.trace);
  }
  return found;
}
