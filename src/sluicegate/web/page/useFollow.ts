import { useCallback, useEffect, useLayoutEffect, useRef, useState, type MouseEvent, type RefObject } from "react";

const NEAR = 100; // pixels from the end that count as there for who scrolls down: words come meanwhile

interface Follow {
  readonly box: RefObject<HTMLDivElement | null>;
  readonly isAtEnd: boolean;
  readonly onScroll: () => void;
  readonly onClick: (event: MouseEvent) => void;
  readonly toEnd: () => void;
}

/**
 * Keeps a box at its end while what is in it grows or the box shrinks, until its reader scrolls up or unfolds something;
 * from there on nothing moves it but a new `mark`, and nothing without one. Looks at sizes only when they changed.
 */
export function useFollow(mark: string | undefined): Follow {
  const box = useRef<HTMLDivElement>(null);
  const isFollowing = useRef(true);
  const top = useRef(0);
  const [isAtEnd, setAtEnd] = useState(true);

  const toEnd = useCallback(() => {
    isFollowing.current = true;
    box.current!.scrollTop = box.current!.scrollHeight;
  }, []);
  useLayoutEffect(() => {
    if (mark) toEnd();
  }, [mark, toEnd]);

  const look = useCallback(() => {
    const { scrollTop, scrollHeight, clientHeight } = box.current!;
    const left = scrollHeight - scrollTop - clientHeight;
    const moved = scrollTop - top.current;
    top.current = scrollTop;
    // Not every position that is off the end was chosen: words may have come since.
    if (left <= 1 || (left < NEAR && moved > 0)) isFollowing.current = true;
    else if (moved < 0) isFollowing.current = false;
    setAtEnd(isFollowing.current || left < NEAR);
  }, []);
  const isIdle = !mark;
  useEffect(() => {
    if (isIdle) return;
    const observer = new ResizeObserver(() => (isFollowing.current ? toEnd() : look()));
    observer.observe(box.current!);
    observer.observe(box.current!.firstElementChild!);
    return () => observer.disconnect();
  }, [isIdle, toEnd, look]);

  const onClick = ({ target }: MouseEvent) => {
    if ((target as Element).closest("summary")) isFollowing.current = false;
  };
  return { box, isAtEnd: isAtEnd || isIdle, onScroll: look, onClick, toEnd };
}
