import { useCallback, useEffect, useState } from "react";

import { newKey } from "../client/request.js";

const HASH = /^#chat=([A-Za-z0-9]{1,64})$/;

/** The name of the conversation, which is in the address: whoever opens the same one sees the same; and what renames it. */
export function useConversationName(): [string, () => void] {
  const [name, setName] = useState(() => HASH.exec(location.hash)?.[1] ?? newKey());
  useEffect(() => history.replaceState(null, "", `#chat=${name}`), [name]);
  useEffect(() => {
    const listener = () => setName((kept) => HASH.exec(location.hash)?.[1] ?? kept);
    window.addEventListener("hashchange", listener);
    return () => window.removeEventListener("hashchange", listener);
  }, []);
  return [name, useCallback(() => setName(newKey()), [])];
}
