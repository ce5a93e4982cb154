// @vitest-environment happy-dom
import { act } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, describe, expect, test, vi } from "vitest";

import { Markdown } from "../page/markdown/Markdown.js";
import { CopyButton } from "../page/parts/CopyButton.js";

vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
afterEach(() => vi.useRealTimers());

const SHOWN = {
  "of an answer": [<CopyButton text="all of it" of="answer" />, "answer", "all of it"],
  "of code": [<Markdown text={"```py\nprint(1)\n\nprint(2)\n```"} isGrowing={false} />, "Python code", "print(1)\n\nprint(2)"],
} as const;
const CLIPBOARDS = {
  "that takes it": ["Copied", (copied: string[]) => ({ writeText: (text: string) => Promise.resolve(void copied.push(text)) })],
  "that refuses": ["Not allowed by the browser", () => ({ writeText: () => Promise.reject(new DOMException("", "NotAllowedError")) })],
  "that is not there": ["Not allowed by the browser", () => undefined],
} as const;

describe.each(Object.keys(SHOWN) as (keyof typeof SHOWN)[])("the button that copies, %s", (what) => {
  test.each(Object.keys(CLIPBOARDS) as (keyof typeof CLIPBOARDS)[])("says for a while how it went, for a clipboard %s", async (which) => {
    const [element, name, text] = SHOWN[what];
    const [said, clipboard] = CLIPBOARDS[which];
    const copied: string[] = [];
    vi.useFakeTimers();
    vi.stubGlobal("navigator", { clipboard: clipboard(copied) });
    const page = document.createElement("main");
    act(() => createRoot(page).render(element));
    const button = page.querySelector("button")!;
    expect(button.textContent).toBe(`Copy ${name}`);
    await act(() => Promise.resolve(button.click()));
    expect(button.textContent).toBe(`${said} ${name}`);
    expect(copied).toEqual(which === "that takes it" ? [text] : []);
    act(() => vi.runAllTimers());
    expect(button.textContent).toBe(`Copy ${name}`);
  });
});
