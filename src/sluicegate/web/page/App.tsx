import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import type { Failure, Frame } from "../client/index.js";
import { useStreamingChat } from "../react/index.js";
import { Announcer } from "./Announcer.js";
import { Composer } from "./Composer.js";
import { Conversation } from "./Conversation.js";
import { EventLog } from "./eventLog.js";
import { Header } from "./Header.js";
import { isTouch } from "./isTouch.js";
import { Panel } from "./panel/Panel.js";
import { useConversationName } from "./useConversationName.js";
import { useModels } from "./useModels.js";
import { useSetting } from "./useSetting.js";
import { useTitle } from "./useTitle.js";
import { newsOf, STATUS } from "./words.js";

/** The chat, its settings, and what goes on under it. */
export function App() {
  const [key, setKey] = useSetting("key", "");
  const [model, setModel] = useSetting("model", "");
  const [system, setSystem] = useSetting("system", "");
  const [draft, setDraft] = useSetting("draft", "");
  const [isPanelOpen, setPanelOpen] = useState(false);
  const [isSettingsOpen, setSettingsOpen] = useState(false);
  const [log] = useState(() => new EventLog());
  const input = useRef<HTMLTextAreaElement>(null);
  const panelButton = useRef<HTMLButtonElement>(null);
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
        onError: ({ code }: Failure) => code === "UNAUTHORIZED" && setSettingsOpen(true),
      }),
      [shared, headers, model, isKnown, system, log],
    ),
  );

  const { messages, isStreaming, sendMessage, abort, retry, resume, clear } = chat;
  const last = messages.at(-1);
  const status = chat.status === "streaming" && !last?.parts.length ? "waiting" : chat.status;
  useTitle(newsOf(last), last?.id ?? "");

  useEffect(() => {
    if (models.isLocked) setSettingsOpen(true);
  }, [models.isLocked]);

  useEffect(() => {
    if (!isStreaming) return;
    const listener = (event: KeyboardEvent) => event.key === "Escape" && !event.isComposing && void abort();
    window.addEventListener("keydown", listener);
    return () => window.removeEventListener("keydown", listener);
  }, [isStreaming, abort]);

  // What was pressed may be gone.
  const focusInput = useCallback(() => void (isTouch() || input.current?.focus()), []);
  const onAsk = useCallback(
    (text: string) => {
      focusInput();
      return sendMessage(text);
    },
    [sendMessage, focusInput],
  );
  const onRetry = useCallback(() => {
    void retry();
    focusInput();
  }, [retry, focusInput]);
  const onResume = useCallback(() => {
    void resume();
    focusInput();
  }, [resume, focusInput]);
  const onEdit = useCallback(() => {
    const at = messages.findLastIndex(({ role }) => role === "user");
    setDraft([messages[at]!.content, input.current!.value].filter(Boolean).join("\n\n"));
    void clear(messages.slice(0, at));
    input.current!.focus();
  }, [messages, setDraft, clear]);
  const onStop = () => {
    void abort();
    focusInput();
  };
  const onNew = () => {
    log.clear();
    rename();
    focusInput();
  };
  const onPanelClose = () => {
    setPanelOpen(false);
    panelButton.current?.focus();
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
        isOpen={isSettingsOpen}
        onOpen={() => setSettingsOpen((isOpen) => !isOpen)}
        isPanelOpen={isPanelOpen}
        panelButton={panelButton}
        onPanel={() => setPanelOpen((isOpen) => !isOpen)}
        onNew={messages.length ? onNew : undefined}
      />
      <main className="chat" aria-label="Conversation">
        <Conversation messages={messages} status={status} onAsk={onAsk} onRetry={onRetry} onEdit={onEdit} onResume={onResume} />
        <Composer
          input={input}
          draft={draft}
          setDraft={setDraft}
          isStreaming={isStreaming}
          status={STATUS[status]}
          onSend={onAsk}
          onStop={onStop}
        />
      </main>
      {isPanelOpen && <Panel log={log} onClose={onPanelClose} />}
      <Announcer messages={messages} status={status} />
    </div>
  );
}
