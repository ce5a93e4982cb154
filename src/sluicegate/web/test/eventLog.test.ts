import fc from "fast-check";
import { beforeEach, describe, expect, test, vi } from "vitest";

import type { Frame } from "../client/index.js";
import { EventLog } from "../page/eventLog.js";

const KEPT = 500;
const FRAMES_A_SECOND = 60;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
  return () => void vi.useRealTimers();
});

/** A display whose frames come when the test says so. */
function display() {
  let due: FrameRequestCallback[] = [];
  vi.stubGlobal("document", { hidden: false });
  vi.stubGlobal("requestAnimationFrame", (work: FrameRequestCallback) => due.push(work));
  return (): void => {
    const now = due;
    due = [];
    vi.advanceTimersByTime(1_000 / FRAMES_A_SECOND);
    now.forEach((work) => work(0));
  };
}

const frame = (number: number): Frame => ({ content: String(number) });

/** What happens to a log: so many frames are added, it is cleared, or the display shows the next frame. */
const steps = fc.array(fc.oneof(fc.integer({ min: 1, max: 1_200 }), fc.constantFrom("clear", "show")), { maxLength: 12 });

describe("the log of a run's frames", () => {
  test("shows the newest since it was cleared, numbered and timed from the first, as of the last frame of the display", () => {
    let count = 0;
    fc.assert(
      fc.property(steps, (all) => {
        const show = display();
        const log = new EventLog();
        log.subscribe(() => undefined);
        const added: Frame[] = [];
        let began = 0;
        for (const step of [...all, "show"]) {
          const before = log.snapshot();
          if (step === "show") {
            show();
            expect(log.snapshot().map((logged) => logged.frame)).toEqual(added.slice(-KEPT));
            const first = added.length - log.snapshot().length + 1;
            expect(log.snapshot().map(({ number }) => number)).toEqual(log.snapshot().map((_, at) => first + at));
            const times = log.snapshot().map(({ at }) => at);
            expect(times).toEqual([...times].sort((one, other) => one - other));
            if (times.length) expect(times.at(-1)).toBeLessThanOrEqual(performance.now() - began);
            if (first === 1 && times.length) expect(times[0]).toBe(0);
            continue;
          }
          if (step === "clear") {
            log.clear();
            added.length = 0;
          } else {
            for (let left = Number(step); left > 0; left -= 1) {
              if (!added.length) began = performance.now();
              added.push(frame(count += 1));
              log.add(added.at(-1)!);
              vi.advanceTimersByTime(1);
            }
          }
          expect(log.snapshot()).toBe(before);
        }
      }),
      { numRuns: 150 },
    );
    expect(count).toBeGreaterThanOrEqual(100_000);
  });

  test("shows as many as it can at any time", () => {
    const show = display();
    const log = new EventLog();
    log.subscribe(() => undefined);
    for (let count = 1; count <= 4 * KEPT; count += 1) {
      log.add(frame(count));
      show();
      expect(log.snapshot()).toHaveLength(Math.min(count, KEPT));
      expect(log.snapshot().at(-1)?.frame).toEqual(frame(count));
    }
  });

  test("tells its listeners once a frame of the display, however many frames came", () => {
    const show = display();
    const log = new EventLog();
    const told = [0, 0];
    const leave = told.map((_, at) => log.subscribe(() => (told[at]! += 1)));
    told.fill(0);
    for (let at = 0; at < 10_000; at += 1) log.add(frame(at));
    expect(told).toEqual([0, 0]);
    show();
    show();
    expect(told).toEqual([1, 1]);
    leave[0]!();
    log.clear();
    log.add(frame(0));
    show();
    expect(told).toEqual([1, 2]);
  });

  test("costs nothing while nobody looks, and shows what came before to whoever begins to", () => {
    const show = display();
    const log = new EventLog();
    const empty = log.snapshot();
    for (let at = 0; at < 3_000; at += 1) log.add(frame(at));
    show();
    expect(log.snapshot()).toBe(empty);
    log.subscribe(() => undefined);
    expect(log.snapshot().map((logged) => logged.number)).toEqual(Array.from({ length: KEPT }, (_, at) => 3_000 - KEPT + 1 + at));
  });
});
