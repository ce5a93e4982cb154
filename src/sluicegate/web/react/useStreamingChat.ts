import { useCallback, useEffect, useState, useSyncExternalStore } from "react";

import { Chat, type ChatMessage, type ChatOptions, type ChatSnapshot } from "../client/index.js";

export interface UseStreamingChat extends ChatSnapshot {
  readonly messages: readonly ChatMessage[];
  readonly isStreaming: boolean;
  readonly sendMessage: Chat["send"];
  readonly abort: Chat["abort"];
  readonly retry: Chat["retry"];
  readonly resume: Chat["resume"];
  readonly clear: Chat["clear"];
}

/**
 * A conversation with a sluicegate service. One render a frame of the display at most; messages and parts that did not
 * change are the same objects as before, so `memo` holds. Leaves what is under way when it is unmounted, and so ends it,
 * unless other tabs show it too. With another name in `shared` it is another conversation, and the one before is left.
 */
export function useStreamingChat(options: ChatOptions, messages?: readonly ChatMessage[]): UseStreamingChat {
  const [held, setHeld] = useState(() => new Chat(options, messages));
  const chat = held.shared === options.shared ? held : new Chat(options);
  if (chat !== held) setHeld(chat);
  useEffect(() => chat.configure(options));
  useEffect(() => chat.join(), [chat]);
  const snapshot = useSyncExternalStore(chat.subscribe, chat.snapshot, chat.snapshot);
  return {
    ...snapshot,
    isStreaming: snapshot.status !== "ready",
    sendMessage: useCallback((...asked) => chat.send(...asked), [chat]),
    abort: useCallback(() => chat.abort(), [chat]),
    retry: useCallback(() => chat.retry(), [chat]),
    resume: useCallback(() => chat.resume(), [chat]),
    clear: useCallback((...kept) => chat.clear(...kept), [chat]),
  };
}
