// @vitest-environment happy-dom
import fc from "fast-check";
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { describe, expect, test } from "vitest";

import { Announcer } from "../page/Announcer.js";
import { LEAST, MOST, plain } from "../page/announce.js";
import type { ChatMessage, ChatStatus, Ending, Part } from "../react/index.js";
import { DOCUMENTS } from "./markdownCorpus.js";

const DONE: Ending = { type: "done", finishReason: "stop" };
const answer = (parts: readonly Part[], ending?: Ending, id = "a"): ChatMessage => {
  return { id, role: "assistant", content: "", parts, ...(ending && { ending }) };
};
const textPart = (text: string, step = 1): Part => ({ type: "text", step, text });

/** The announcer of a page; `show` returns what it adds. */
function announcer() {
  const page = document.createElement("main");
  const root = createRoot(page);
  let known = new Set<Element>();
  const show = (messages: readonly ChatMessage[], status: ChatStatus = "streaming"): string[] => {
    flushSync(() => root.render(<Announcer messages={messages} status={status} />));
    const all = [...page.querySelectorAll("[role=log] > p")];
    const added = all.filter((element) => !known.has(element)).map((element) => element.textContent!);
    known = new Set(all);
    return added;
  };
  return { page, show };
}

/** What is announced of an answer whose text comes in pieces that end there. */
function announced(text: string, ends: Iterable<number>): string[] {
  const { show } = announcer();
  const heard = [...ends].flatMap((end) => show([answer([textPart(text.slice(0, end))])]));
  return [...heard, ...show([answer([textPart(text)], DONE)], "ready")];
}

const dense = (text: string): string => text.replace(/\s/g, "");

const WORDS = [
  "water", "*gate*", "`f(x). Y`", "[a link. It](https://x.y/a. \"B\")", "3.14", "e.g. this", "v1.2", "snake_case_name", "**very**",
  "(in brackets)", "https://x.y/z.html", "its owner's", "![An image. Or two](u)", "array[0]", "~~not~~", "\nover lines", "wörter",
];
const sentence = fc
  .tuple(fc.constantFrom("The", "A", "**So**", "It", "Über", "`X` and"), fc.array(fc.constantFrom(...WORDS), { maxLength: 12 }))
  .chain(([first, rest]) => fc.constantFrom(".", "!", "?", ".**", '."').map((end) => `${[first, ...rest].join(" ")} end${end}`))
  .map((text) => (text.endsWith("**") ? `**${text.replaceAll("**", "")}**` : text));
const sentences = fc.array(sentence, { minLength: 1, maxLength: 5 });
const chinese = fc.array(fc.constantFrom("水从渠道流过。", "「守门人看着它吗?」", "没有什么被丢失!"), { minLength: 1, maxLength: 20 });
const short = fc.constantFrom("One thing", "**Two**: things", "A `third`.", "See [this](https://x.y)");
const lines = (mark: (at: number) => string) =>
  fc.array(short, { minLength: 1, maxLength: 5 }).map((all) => all.map((text, at) => `${mark(at)}${text}\n`));

/** Blocks, each as the units that nothing is announced within. */
const block: fc.Arbitrary<readonly string[]> = fc.oneof(
  sentences.map((all) => all.map((text, at) => (at < all.length - 1 ? `${text} ` : text))),
  sentences.map((all) => ["> ", ...all.map((text) => `${text.replace(/\n/g, "\n> ")} `)]),
  chinese,
  short.map((text) => [`## ${text}\n`]),
  lines(() => "- "),
  lines((at) => `${at + 1}. `),
  lines((at) => (at ? "   - [x] " : "- [ ] ")),
  fc.array(short, { maxLength: 3 }).map((rows) => ["| A | B |\n", "|---|:-:|\n", ...rows.map((row) => `| ${row} | 1 |\n`)]),
  fc.constantFrom("```", "~~~~").chain((fence) =>
    fc
      .array(fc.constantFrom<string>("let a. B = 1. C", "", "``", "# No. Heading", "- x", "```", "~~~"), { maxLength: 8 })
      .filter((code) => !code.includes(fence))
      .map((code) => [`${fence}js\n${code.map((line) => `${line}\n`).join("")}${fence}\n`]),
  ),
);
const document_ = fc.array(block, { minLength: 1, maxLength: 6 }).map((blocks) => blocks.flatMap((units) => [...units, "\n\n"]));

describe("of an answer that grows", () => {
  const pieces = fc.infiniteStream(fc.integer({ min: 1, max: 30 }));

  test("all is announced, once and in order, in whole sentences and blocks, whatever pieces it comes in", () => {
    let count = 0;
    fc.assert(
      fc.property(document_, pieces, (units, sizes) => {
        const text = units.join("");
        const ends: number[] = [];
        for (let end = 0; end < text.length; end += Number(sizes.next().value)) ends.push(end);
        const heard = announced(text, ends);
        expect(dense(heard.join(""))).toBe(dense(plain(text)));
        const whole = new Set([0]);
        units.forEach((_, at) => whole.add(dense(plain(units.slice(0, at + 1).join(""))).length));
        let place = 0;
        for (const said of heard) {
          place += dense(said).length;
          expect(whole, `${JSON.stringify(text)} ${JSON.stringify(said)}`).toContain(place);
        }
        for (const said of heard.slice(0, -1)) expect(said.length).toBeGreaterThan(0);
        count += heard.length;
      }),
      { numRuns: 1_000 },
    );
    expect(count).toBeGreaterThanOrEqual(4_000);
  });

  test("the same is announced word by word and at once, save that more is said together", () => {
    for (const [name, text] of Object.entries(DOCUMENTS)) {
      const heard = announced(text, Array.from({ length: text.length }, (_, at) => at));
      expect(dense(heard.join("")), name).toBe(dense(plain(text)));
      expect(announced(text, [])).toEqual(plain(text) ? [plain(text)] : []);
    }
    expect(Object.keys(DOCUMENTS).length).toBeGreaterThanOrEqual(50);
  });

  test("little is announced with what follows it, and all of it soon after it is there", () => {
    const text = Array.from({ length: 40 }, (_, at) => `Sentence ${at} is a short one. `).join("");
    const { show } = announcer();
    let behind = 0;
    for (let end = 1, said = 0; end <= text.length; end += 1) {
      const added = show([answer([textPart(text.slice(0, end))])]);
      for (const each of added) expect(each.length).toBeGreaterThanOrEqual(LEAST - 1);
      said += added.join("").length + added.length;
      behind = Math.max(behind, end - said);
    }
    expect(behind).toBeLessThanOrEqual(LEAST + 35);
  });

  test("an endless sentence is announced at the ends of words", () => {
    const words = Array.from({ length: 500 }, (_, at) => `word${at}`);
    const text = words.join(" ");
    const heard = announced(text, Array.from({ length: text.length }, (_, at) => at));
    expect(heard.join(" ")).toBe(text);
    for (const said of heard) expect(said.length).toBeLessThanOrEqual(MOST);
    for (const said of heard.slice(0, -1)) expect(said.length).toBeGreaterThan(MOST - 10);
  });

  test("each part is whole on its own, refusals too; reasoning and calls are not announced", () => {
    const parts: readonly Part[] = [
      { type: "reasoning", step: 1, text: "Hm. I think about it for quite a while, and then some. And on." },
      textPart("What it says before a call has no full stop"),
      { type: "tool_call", step: 1, id: "1", name: "look", argumentsText: "{}", isRunning: true },
      textPart("Then it goes on with what it found there"),
      { type: "refusal", step: 2, text: "No." },
    ];
    const { show } = announcer();
    const heard = parts.map((_, at) => show([answer(parts.slice(0, at + 1))]));
    const found = "Then it goes on with what it found there";
    expect(heard).toEqual([[], [], [], ["What it says before a call has no full stop"], [found]]);
    expect(show([answer(parts, DONE)])).toEqual(["No."]);
  });

  test("the next answer is announced from its beginning, and what was heard long ago is gone", () => {
    const { page, show } = announcer();
    for (let id = 0; id < 100; id += 1) {
      const messages = [answer([textPart(`Answer ${id}.`)], DONE, `a${id}`)];
      expect(show(messages)).toEqual([`Answer ${id}.`]);
      expect(show([...messages, { id: "q", role: "user", content: "Read. Me. Not.", parts: [] }])).toEqual([]);
    }
    expect(page.querySelectorAll("[role=log] > p").length).toBeLessThanOrEqual(20);
  });
});

test("the status has a region of its own, and no word of an answer is in it", () => {
  const { page, show } = announcer();
  const said = () => page.querySelector("[role=status]")!.textContent;
  const failed: Ending = { type: "error", failure: { code: "CANCELLED", message: "secret", retryable: true } };
  for (const status of ["queued", "connecting", "waiting", "streaming", "reconnecting"] as const) {
    show([answer([textPart("Words. ")])], status);
    expect(said()).toMatch(/(…|\.)$/);
    expect(said()).not.toContain("Words");
  }
  show([answer([], DONE)], "ready");
  expect(said()).toBe("The answer is complete.");
  show([answer([], failed)], "ready");
  expect(said()).toMatch(/^Stopped\. /);
  show([], "ready");
  expect(said()).toBe("");
});

test.each([
  ["```py\na\n\nb\n```", "Python code, 3 lines."],
  ["~~~\na", "Code, 1 line."],
  ["1. x\n\n   ```sh\n   ls\n   ```", "1. x Bash code, 1 line."],
  ["| a | b |\n|---|--:|\n| 1 | |", "a, b 1,"],
  ["- [ ] one\n- [X] two", "To do: one Done: two"],
  ["> ## *Hi* `x_y` __z__", "Hi x_y z"],
  ["2 * 3 = 6, a_b_c", "2 * 3 = 6, a_b_c"],
  ["[![a](b.png)](c) [d](e(f)g)", "a d"],
])("%j is read as %j", (markdown, spoken) => {
  expect(plain(markdown)).toBe(spoken);
});
