import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { Chat, Transcript, type ChatOptions, type Frame } from "../client/index.js";
import { Origin, splitTimers, type Freeze, type Tab } from "./origin.js";
import { RUN } from "./server.js";
import { Service } from "./service.js";

const PARTS = (() => {
  const transcript = new Transcript();
  RUN.forEach((frame) => transcript.take(frame));
  return transcript.parts;
})();

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"] });
  splitTimers();
});
afterEach(() => void vi.useRealTimers());

/** Let everything happen that can, and then `ms` pass in small steps. */
async function pass(ms = 0): Promise<void> {
  for (let left = ms; ; left -= 250) {
    for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
    if (left <= 0) return;
    vi.advanceTimersByTime(Math.min(left, 250));
  }
}

class Seat {
  readonly frames: Frame[] = [];
  readonly chat: Chat;
  readonly leave: () => void;
  readonly told: string[] = [];

  constructor(
    readonly tab: Tab,
    service: Service,
    options: Partial<ChatOptions> = {},
  ) {
    this.chat = new Chat({
      apiUrl: "http://service.invalid/chat",
      shared: "c1",
      fetch: service.fetchOf(tab),
      request: () => ({ model: "m" }),
      onFrame: (frame) => this.frames.push(frame),
      onComplete: () => this.told.push("complete"),
      onError: ({ code }) => this.told.push(code),
      ...options,
    });
    this.leave = tab.within(() => this.chat.join());
  }

  get shown() {
    return this.chat.snapshot();
  }
}

/** Tabs that are open, of which the first has asked, and what else there is. */
async function together(count: number, { isAsked = true } = {}) {
  const [origin, service] = [new Origin(), new Service()];
  const open = () => new Seat(origin.open(), service);
  const seats = Array.from({ length: count }, open);
  await pass();
  let asked: Promise<boolean> | undefined;
  if (isAsked) asked = seats[0]!.chat.send("What is 6 times 7?");
  await pass();
  return { origin, service, seats, open, asked };
}

function expectWhole(seats: readonly Seat[], service: Service): void {
  const shown = seats.map((seat) => seat.shown);
  for (const { messages, status } of shown) {
    expect(status).toBe("ready");
    expect(messages.map(({ role }) => role)).toEqual(["user", "assistant"]);
    expect(messages[1]).toMatchObject({ parts: PARTS, ending: { type: "done" }, model: "m", runId: "r1" });
    expect(messages).toEqual(shown[0]!.messages);
  }
  expect(service.runs.size).toBe(1);
  expect(service.count("DELETE")).toBe(0);
}

const EVENTS = {
  nothing: () => undefined,
  "the reader crashes": ([reader]: Seat[]) => reader!.tab.crash(),
  "the reader is closed": ([reader]: Seat[]) => reader!.leave(),
  "a follower crashes": ([, , follower]: Seat[]) => follower!.tab.crash(),
  "a follower is closed": ([, , follower]: Seat[]) => follower!.leave(),
} as const;
const GONE: Record<keyof typeof EVENTS, number | undefined> = {
  nothing: undefined,
  "the reader crashes": 0,
  "the reader is closed": 0,
  "a follower crashes": 2,
  "a follower is closed": 2,
};

describe("whatever tab goes, behind whichever frame", () => {
  test.each(Object.keys(EVENTS) as (keyof typeof EVENTS)[])("%s: the others show the same as one reader", async (event) => {
    let count = 0;
    for (let at = 0; at < RUN.length; at++, count++) {
      const { service, seats, open } = await together(3);
      service.run.push(...RUN.slice(0, at));
      await pass();
      EVENTS[event](seats);
      const late = open();
      service.run.push(...RUN.slice(at));
      await pass(500);
      const left = seats.filter((_, index) => index !== GONE[event]);
      expectWhole([...left, late], service);
      for (const seat of left) expect(seat.frames).toEqual(RUN);
      expect(RUN.slice(RUN.length - late.frames.length)).toEqual(late.frames);
      const told = left.flatMap((seat) => seat.told);
      expect(told).toEqual(["complete"]);
    }
    expect(count).toBeGreaterThan(16);
  });

  test("and the next reader too", async () => {
    let count = 0;
    for (let first = 0; first < RUN.length; first++) {
      for (let second = first; second < RUN.length; second++, count++) {
        const { service, seats } = await together(4);
        service.run.push(...RUN.slice(0, first));
        await pass();
        seats[0]!.tab.crash();
        await pass(250);
        service.run.push(...RUN.slice(first, second));
        await pass();
        const next = service.asked.at(-1)!.tab;
        expect(next).not.toBe(seats[0]!.tab);
        next.crash();
        service.run.push(...RUN.slice(second));
        await pass(500);
        const left = seats.filter(({ tab }) => tab !== seats[0]!.tab && tab !== next);
        expect(left).toHaveLength(2);
        expectWhole(left, service);
        for (const seat of left) expect(seat.frames).toEqual(RUN);
      }
    }
    expect(count).toBeGreaterThan(150);
  });

  test("before its question reached the server: another tab asks it", async () => {
    const { origin, service, open } = await together(0, { isAsked: false });
    const mute: typeof fetch = () => new Promise(() => undefined);
    const reader = new Seat(origin.open(), service, { fetch: mute });
    const seats = [open(), open()];
    await pass();
    void reader.chat.send("What is 6 times 7?");
    await pass();
    reader.tab.crash();
    await pass(250);
    service.run.push(...RUN);
    await pass(250);
    expectWhole(seats, service);
    expect(service.count("POST")).toBe(1);
  });
});

describe("a reader that is frozen", () => {
  const WAYS: Freeze[] = ["hears", "defers", "misses"];

  test("behind whichever frame: another tab reads on, and the frozen one follows when it thaws", async () => {
    let count = 0;
    for (let at = 0; at <= RUN.length; at++) {
      for (const [isEndedMeanwhile, how] of [false, true].flatMap((is) => WAYS.map((way) => [is, way] as const))) {
        count++;
        const { service, seats } = await together(3);
        service.run.push(...RUN.slice(0, Math.min(at, RUN.length - 1)));
        await pass();
        const endings = new Set<string | undefined>();
        seats[0]!.chat.subscribe(() => endings.add(seats[0]!.shown.messages[1]?.ending?.type));
        seats[0]!.tab.freeze(how);
        await pass(10_000);
        const taker = service.asked.at(-1)!.tab;
        expect(taker).not.toBe(seats[0]!.tab);
        if (isEndedMeanwhile) service.run.push(...RUN.slice(service.run.frames.length));
        await pass(500);
        seats[0]!.tab.thaw();
        await pass(500);
        service.run.push(...RUN.slice(service.run.frames.length));
        await pass(500);
        expectWhole(seats, service);
        for (const seat of seats.slice(1)) expect(seat.frames).toEqual(RUN);
        expect(endings).not.toContain("error");
      }
    }
    expect(count).toBeGreaterThan(100);
  });

  test("is told from one that has nothing to say", async () => {
    const { service, seats } = await together(3);
    await pass(40_000);
    expect(new Set(service.asked.map(({ tab }) => tab))).toEqual(new Set([seats[0]!.tab]));
  });

  test("is stopped by whoever reads on, if a follower asked for that", async () => {
    const { service, seats } = await together(3);
    service.run.push(...RUN.slice(0, 6));
    await pass();
    seats[0]!.tab.freeze("defers");
    void seats[1]!.chat.abort();
    await pass(10_000);
    expect(service.count("DELETE")).toBe(1);
    seats[0]!.tab.thaw();
    await pass(500);
    for (const { shown } of seats) {
      expect(shown.status).toBe("ready");
      expect(shown.messages[1]!.ending).toMatchObject({ type: "error", failure: { code: "CANCELLED" } });
    }
  });
});

describe("any tab", () => {
  test.each([0, 1, 2])("stops the answer: tab %i", async (index) => {
    const { service, seats, asked } = await together(3);
    service.run.push(...RUN.slice(0, 6));
    await pass();
    const stopped = seats[index]!.chat.abort();
    await pass(250);
    await stopped;
    expect(await asked).toBe(true);
    expect(service.count("DELETE")).toBe(1);
    for (const { shown } of seats) {
      expect(shown.status).toBe("ready");
      expect(shown.messages[1]!.ending).toMatchObject({ failure: { code: "CANCELLED" } });
    }
  });

  test.each([0, 1, 2])("asks, asks again and clears: tab %i", async (index) => {
    const { service, seats } = await together(3);
    service.run.push(...RUN);
    await pass(250);
    const { chat } = seats[index]!;
    for (const [ask, count] of [[() => chat.send("And 7 times 6?"), 4], [() => chat.retry(), 4]] as const) {
      const asked = ask();
      await pass(250);
      service.run.push(...RUN);
      await pass(250);
      expect(await asked).toBe(true);
      for (const { shown } of seats) expect(shown.messages).toHaveLength(count);
      for (const { shown } of seats) expect(shown).toEqual(seats[0]!.shown);
    }
    expect(service.runs.size).toBe(3);
    const cleared = chat.clear();
    await pass(500);
    await cleared;
    for (const { shown } of seats) expect(shown).toEqual({ messages: [], status: "ready" });
  });

  test("of those that ask at the same moment wins, and the others are told", async () => {
    const { service, seats } = await together(4, { isAsked: false });
    const asked = seats.map(({ chat }, index) => chat.send(`question ${index}`));
    await pass(500);
    service.run.push(...RUN);
    await pass(500);
    expect((await Promise.all(asked)).filter(Boolean)).toHaveLength(1);
    expectWhole(seats, service);
    expect(service.count("POST")).toBe(1);
  });

  test("of those that ask while one is under way is told so at once", async () => {
    const { service, seats } = await together(2);
    for (const { chat } of seats) expect(await Promise.all([chat.send("too soon"), chat.retry(), chat.resume()])).toEqual([false, false, false]);
    expect(service.runs.size).toBe(1);
  });

  test("keeps the messages that it has when another one begins", async () => {
    const { service, seats } = await together(2);
    service.run.push(...RUN);
    await pass(250);
    const before = seats[1]!.shown.messages;
    void seats[0]!.chat.send("And 7 times 6?");
    await pass(500);
    expect(seats[1]!.shown.messages.slice(0, 2)).toEqual(before);
    before.forEach((message, index) => expect(seats[1]!.shown.messages[index]).toBe(message));
    expect(seats[1]!.shown.messages).toHaveLength(4);
  });
});

test("the last tab to leave stops the answer, no other one does, in whatever order", async () => {
  const orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
  for (const order of orders) {
    const { service, seats } = await together(3);
    service.run.push(...RUN.slice(0, 6));
    await pass();
    for (const [left, index] of order.entries()) {
      expect(service.count("DELETE")).toBe(0);
      seats[index]!.leave();
      await pass(250);
      expect(service.count("DELETE")).toBe(left === 2 ? 1 : 0);
    }
  }
});

test("a lock that comes before the last words of who had it: nobody reads what has ended", async () => {
  const { origin, service, seats } = await together(3);
  origin.isLagging = true;
  for (let index = 0; index < 3; index++) {
    service.run.push(...RUN);
    await pass(500);
    for (const { shown } of seats) expect(shown).toEqual(seats[0]!.shown);
    expect(seats[0]!.shown.messages).toHaveLength(2 * index + 2);
    void seats[index]!.chat.send("And then?");
    await pass(500);
  }
  expect(service.runs.size).toBe(4);
  expect(service.asked).toHaveLength(4);
});

test("frames that come twice, are left out or are of an earlier reader: each is shown once", async () => {
  let count = 0;
  for (let at = 1; at < RUN.length; at++, count++) {
    const { origin, service, seats } = await together(2);
    service.run.push(...RUN.slice(0, at));
    await pass();
    const [channel] = [...origin.channels].filter(({ tab }) => tab === seats[0]!.tab);
    const key = [...service.runs.keys()][0]!;
    const say = (seq: number, term: number) =>
      channel!.postMessage({ from: "t", type: "frame", term, frame: RUN[seq - 1], token: { key, after: `e1-${seq}` } });
    for (const seq of [at, 1]) say(seq, Date.now()); // it has not moved since the reader's term began
    say(at + 1, 0);
    await pass();
    expect(seats[1]!.frames).toEqual(RUN.slice(0, at));
    service.run.push(...RUN.slice(at));
    await pass(500);
    expectWhole(seats, service);
    for (const { frames } of seats) expect(frames).toEqual(RUN);
  }
  expect(count).toBeGreaterThan(15);
});

test("a tab of another conversation sees nothing of it", async () => {
  const { origin, service } = await together(2);
  const other = new Seat(origin.open(), service, { shared: "c2" });
  service.run.push(...RUN);
  await pass(500);
  expect(other.shown).toEqual({ messages: [], status: "ready" });
});

test("who asks on a page that was left alone has the newer history", async () => {
  const { service, seats, open } = await together(1);
  for (let more = 0; more < 3; more++) {
    service.run.push(...RUN);
    await pass(250);
    void seats[0]!.chat.retry();
    await pass(250);
  }
  service.run.push(...RUN);
  await pass(250);
  seats[0]!.tab.freeze("defers");
  const other = open();
  const asked = other.chat.send("Anybody there?");
  await pass(500);
  service.run.push(...RUN);
  await pass(500);
  expect(await asked).toBe(true);
  seats[0]!.tab.thaw();
  await pass(500);
  expect(seats[0]!.shown).toEqual(other.shown);
  expect(other.shown.messages[0]!.content).toBe("Anybody there?");
});

describe("a chat makes no channel and no lock", () => {
  const refuse = () => {
    throw new Error("not this");
  };

  test.each([
    ["without the option", { shared: undefined }, { navigator: { locks: { request: refuse } }, BroadcastChannel: refuse }],
    ["without Web Locks", {}, { navigator: {}, BroadcastChannel: refuse }],
    ["without BroadcastChannel", {}, { navigator: { locks: { request: refuse } }, BroadcastChannel: undefined }],
  ])("%s, and works", async (_, options, globals) => {
    const [origin, service] = [new Origin(), new Service()];
    const tab = origin.open();
    tab.within = (work) => {
      for (const [name, value] of Object.entries(globals)) vi.stubGlobal(name, value);
      const made = work();
      vi.unstubAllGlobals();
      return made;
    };
    const seat = new Seat(tab, service, options);
    const asked = seat.chat.send("What is 6 times 7?");
    await pass();
    service.run.push(...RUN);
    await pass(250);
    expect(await asked).toBe(true);
    expectWhole([seat], service);
    void seat.chat.send("again");
    await pass();
    seat.leave();
    await pass();
    expect(service.count("DELETE")).toBe(1);
  });
});
