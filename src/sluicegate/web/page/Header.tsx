import { useId, type RefObject } from "react";

import { Icon } from "./parts/Icon.js";
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
  /** Whether the settings are. */
  readonly isOpen: boolean;
  readonly onOpen: () => void;
  readonly isPanelOpen: boolean;
  readonly panelButton: RefObject<HTMLButtonElement | null>;
  readonly onPanel: () => void;
  readonly onNew: (() => void) | undefined;
}

/** The model, the system prompt, the key, and what is to be seen. */
export function Header({ models, settings, isOpen, onOpen, isPanelOpen, panelButton, onPanel, onNew }: Props) {
  const id = useId();
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
        <button type="button" title="New chat" disabled={!onNew} onClick={onNew}>
          <Icon name="new" />
          <span className="label">New chat</span>
        </button>
        <button type="button" title="Settings" aria-expanded={isOpen} aria-controls={id} onClick={onOpen}>
          <Icon name="settings" />
          <span className="label">Settings</span>
        </button>
        <button ref={panelButton} type="button" title="What goes on inside" aria-expanded={isPanelOpen} onClick={onPanel}>
          <Icon name="inside" />
          <span className="label">Inside</span>
        </button>
      </div>
      <div className="settings" id={id} hidden={!isOpen}>
        <label>
          System prompt
          <textarea
            rows={3}
            dir="auto"
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
