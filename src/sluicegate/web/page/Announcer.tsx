import { useLayoutEffect, useRef, useState } from "react";

import type { ChatMessage, ChatStatus } from "../react/index.js";
import { announceable, plain } from "./announce.js";
import { explain, STATUS } from "./words.js";

const KEPT = 20; // a screen reader speaks what is added; what it has spoken may go

/** What screen readers hear: whole sentences of the answer, never single words, and the status in a region of its own. */
export function Announcer({ messages, status }: { readonly messages: readonly ChatMessage[]; readonly status: ChatStatus }) {
  const [said, setSaid] = useState<readonly { key: number; text: string }[]>([]);
  const place = useRef({ id: "", at: 0, key: 0 });
  const last = messages.at(-1);

  // With the words themselves, not as a render of its own.
  useLayoutEffect(() => {
    if (last?.role !== "assistant") return;
    if (place.current.id !== last.id) place.current = { ...place.current, id: last.id, at: 0 };
    const content = contentOf(last);
    const until = announceable(content, place.current.at, last.ending !== undefined);
    const text = plain(content.slice(place.current.at, until));
    place.current.at = until;
    if (text) setSaid((before) => [...before, { key: place.current.key++, text }].slice(-KEPT));
  }, [last]);

  return (
    <>
      <div className="hidden" role="log" aria-live="polite" aria-relevant="additions" aria-label="Answer">
        {said.map(({ key, text }) => (
          <p key={key}>{text}</p>
        ))}
      </div>
      <p className="hidden" role="status">
        {status === "ready" ? endingOf(last) : STATUS[status]}
      </p>
    </>
  );
}

/** What an answer says; what it says before a tool call is no sentence with what it says behind it. */
function contentOf({ parts }: ChatMessage): string {
  return parts.flatMap((part) => (part.type === "text" || part.type === "refusal" ? [part.text] : [])).join("\n\n");
}

function endingOf(message: ChatMessage | undefined): string {
  if (!message?.ending) return "";
  if (message.ending.type === "done") return "The answer is complete.";
  const { title, advice } = explain(message.ending.failure);
  return `${title}. ${advice}`;
}
