import { useCallback, useState } from "react";

/** A setting that this tab keeps until it is closed. Not longer: one of them is a key. */
export function useSetting(name: string, initial: string): [string, (value: string) => void] {
  const [value, setValue] = useState(() => sessionStorage.getItem(`sluicegate ${name}`) ?? initial);
  const keep = useCallback(
    (given: string) => {
      sessionStorage.setItem(`sluicegate ${name}`, given);
      setValue(given);
    },
    [name],
  );
  return [value, keep];
}
