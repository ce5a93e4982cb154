import { useId, useState } from "react";

import type { Models } from "./useModels.js";

export interface Settings {
  readonly key: string;
  readonly setKey: (value: string) => void;
  readonly model: string;
  readonly setModel: (value: string) => void;
  readonly system: string;
  readonly setSystem: (value: string) => void;
}

interface Props {
  readonly models: Models;
  readonly settings: Settings;
  readonly isPanelOpen: boolean;
  readonly onPanel: () => void;
  readonly onNew: (() => void) | undefined;
}

/** The model, the system prompt, the key, and what is to be seen. */
export function Header({ models, settings, isPanelOpen, onPanel, onNew }: Props) {
  const [isOpen, setOpen] = useState(false);
  const id = useId();
  const isShown = isOpen || models.isLocked;
  return (
    <header className="header">
      <div className="bar">
        <h1>sluicegate</h1>
        <label className="model">
          <span className="hidden">Model</span>
          <select value={settings.model} onChange={(event) => settings.setModel(event.target.value)}>
            <option value="">{models.default || "Default model"}</option>
            {models.list
              .filter(({ name }) => name !== models.default)
              .map(({ name }) => (
                <option key={name}>{name}</option>
              ))}
          </select>
        </label>
        <span className="space" />
        <button type="button" disabled={!onNew} onClick={onNew}>
          New<span className="wide"> chat</span>
        </button>
        <button type="button" aria-expanded={isShown} aria-controls={id} onClick={() => setOpen(!isOpen)}>
          Settings
        </button>
        <button type="button" aria-expanded={isPanelOpen} onClick={onPanel}>
          Inside
        </button>
      </div>
      <div className="settings" id={id} hidden={!isShown}>
        <label>
          System prompt
          <textarea
            rows={3}
            value={settings.system}
            placeholder="What the model is to know and to keep to"
            onChange={(event) => settings.setSystem(event.target.value)}
          />
        </label>
        <label>
          API key
          <input
            type="password"
            autoComplete="off"
            spellCheck={false}
            value={settings.key}
            placeholder={models.isLocked ? "This service asks for one" : "Not needed here"}
            aria-describedby={`${id}-key`}
            onChange={(event) => settings.setKey(event.target.value.trim())}
          />
          <small id={`${id}-key`}>Kept in this tab only, until it is closed.</small>
        </label>
      </div>
    </header>
  );
}
