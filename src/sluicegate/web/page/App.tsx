import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import type { Frame } from "../client/index.js";
import { useStreamingChat } from "../react/index.js";
import { Announcer } from "./Announcer.js";
import { Composer } from "./Composer.js";
import { Conversation } from "./Conversation.js";
import { EventLog } from "./eventLog.js";
import { Header } from "./Header.js";
import { Panel } from "./panel/Panel.js";
import { useConversationName } from "./useConversationName.js";
import { useModels } from "./useModels.js";
import { useSetting } from "./useSetting.js";
import { STATUS } from "./words.js";

/** The chat, its settings, and what goes on under it. */
export function App() {
  const [key, setKey] = useSetting("key", "");
  const [model, setModel] = useSetting("model", "");
  const [system, setSystem] = useSetting("system", "");
  const [isPanelOpen, setPanelOpen] = useState(false);
  const [log] = useState(() => new EventLog());
  const input = useRef<HTMLTextAreaElement>(null);
  const [shared, rename] = useConversationName();

  const headers = useCallback((): Record<string, string> => (key ? { Authorization: `Bearer ${key}` } : {}), [key]);
  const models = useModels(headers);
  const isKnown = models.list.some(({ name }) => name === model);
  const chat = useStreamingChat(
    useMemo(
      () => ({
        apiUrl: "chat",
        shared,
        headers,
        request: () => ({ ...(model && isKnown && { model }), ...(system && { system }) }),
        onFrame: (frame: Frame) => {
          if ("run" in frame) log.clear();
          log.add(frame);
        },
      }),
      [shared, headers, model, isKnown, system, log],
    ),
  );

  useEffect(() => {
    if (!chat.isStreaming) return;
    const listener = (event: KeyboardEvent) => event.key === "Escape" && void chat.abort();
    window.addEventListener("keydown", listener);
    return () => window.removeEventListener("keydown", listener);
  }, [chat.isStreaming, chat.abort]);

  const startNew = () => {
    log.clear();
    rename();
    input.current?.focus();
  };

  return (
    <div className={isPanelOpen ? "app with-panel" : "app"}>
      <a
        className="skip"
        href="#question"
        onClick={(event) => {
          event.preventDefault(); // the address names the conversation
          input.current?.focus();
        }}
      >
        Skip to the question
      </a>
      <Header
        models={models}
        settings={{ key, setKey, model: isKnown ? model : "", setModel, system, setSystem }}
        isPanelOpen={isPanelOpen}
        onPanel={() => setPanelOpen((isOpen) => !isOpen)}
        onNew={chat.messages.length ? startNew : undefined}
      />
      <main className="chat" aria-label="Conversation">
        <Conversation
          messages={chat.messages}
          status={chat.status}
          onRetry={chat.retry}
          onResume={chat.resume}
          onAsk={chat.sendMessage}
        />
        <Composer
          input={input}
          isStreaming={chat.isStreaming}
          status={STATUS[chat.status]}
          onSend={chat.sendMessage}
          onStop={() => void chat.abort()}
        />
      </main>
      {isPanelOpen && <Panel log={log} onClose={() => setPanelOpen(false)} />}
      <Announcer messages={chat.messages} status={chat.status} />
    </div>
  );
}
