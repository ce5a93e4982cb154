import { useEffect } from "react";

const NAME = "sluicegate";

/** Says `news` in the title of the tab, if nobody sees the page when it comes, until somebody does. `id` tells it from the last. */
export function useTitle(news: string, id: string): void {
  useEffect(() => {
    let isSeen = !news;
    const tell = () => {
      isSeen ||= document.visibilityState === "visible";
      document.title = isSeen ? NAME : `${news} · ${NAME}`;
    };
    tell();
    document.addEventListener("visibilitychange", tell);
    return () => document.removeEventListener("visibilitychange", tell);
  }, [news, id]);
}
