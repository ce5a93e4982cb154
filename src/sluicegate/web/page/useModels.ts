import { useEffect, useState } from "react";

export interface Model {
  readonly name: string;
}

export interface Models {
  readonly list: readonly Model[];
  /** The one of requests that name none, "" if there is none. */
  readonly default: string;
  /** A key is needed, and the one that is given is not it. */
  readonly isLocked: boolean;
}

const NONE: Models = { list: [], default: "", isLocked: false };

/** What `GET models` lists for whoever `headers` tell of. */
export function useModels(headers: () => Record<string, string>): Models {
  const [models, setModels] = useState(NONE);
  useEffect(() => {
    const left = new AbortController();
    fetch("models", { headers: headers(), signal: left.signal })
      .then(async (response) => {
        if (response.status === 401) return { ...NONE, isLocked: true };
        const { models: list, default: name } = (await response.json()) as { models: Model[]; default: string };
        return { list, default: name, isLocked: false };
      })
      .then(setModels)
      .catch(() => undefined); // the chat itself says what is wrong
    return () => left.abort();
  }, [headers]);
  return models;
}
