// Run before the page's own scripts: answers of our making, in reads of our making, and a note of all that ran or tried to.
"use strict";

window.signs = [];
for (const name of ["alert", "confirm", "prompt", "msgbox", "open"]) window[name] = () => signs.push(name);
document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  signs.push(`${violatedDirective}: ${blockedURI}`),
);

// A display as fast as the page is.
const ticks = new MessageChannel();
const due = [];
ticks.port1.onmessage = () => due.shift()(performance.now());
window.requestAnimationFrame = (work) => {
  ticks.port2.postMessage(0);
  return due.push(work);
};
const shown = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));

// What `reads` yields: bytes are one read each, SHOWN waits until the page shows what came, HELD until `release` is called.
const SHOWN = Symbol("shown");
const HELD = Symbol("held");
const served = window.fetch;
window.fetch = async (input, init) => {
  const reads = window.reads;
  if (!reads || init?.method !== "POST") return served(input, init);
  window.reads = undefined;
  const stream = new ReadableStream({
    async pull(controller) {
      const { done, value } = reads.next();
      if (done) controller.close();
      else if (value === SHOWN) await shown().then(() => this.pull(controller));
      else if (value === HELD) await new Promise((resolve) => (window.release = resolve)).then(() => this.pull(controller));
      else controller.enqueue(value);
    },
  });
  return new Response(stream, { headers: { "Content-Type": "text/event-stream" } });
};

function encoder() {
  let count = 0;
  return (frame) => new TextEncoder().encode(`id: e1-${(count += 1)}\ndata: ${JSON.stringify(frame)}\n\n`);
}

const DONE = { done: true, finish_reason: "stop", usage: { input_tokens: 1, output_tokens: 1 } };

/** An answer that says `payload` again and again: in two words, shown in between; and in one, whose bytes come in two reads. */
window.split = function* (payload) {
  const encode = encoder();
  window.splits = { words: 0, bytes: 0 };
  yield encode({ run: { id: "r", model: "m" } });
  for (let at = 0; at <= payload.length; at += 1) {
    yield encode({ step: (splits.words += 1) });
    yield encode({ content: payload.slice(0, at) });
    yield SHOWN;
    yield encode({ content: payload.slice(at) });
  }
  for (let at = 1, length = 2; at < length; at += 1) {
    yield encode({ step: splits.words + (splits.bytes += 1) });
    const bytes = encode({ content: payload });
    length = bytes.length;
    yield bytes.slice(0, at);
    yield bytes.slice(at);
  }
  yield encode(DONE);
};

/** An answer that has `payload` wherever it has text at all. */
window.places = function* (payload) {
  const encode = encoder();
  const call = (id, more) => encode({ tool_call: { id, name: payload, ...more } });
  yield encode({ run: { id: payload, model: payload } });
  yield encode({ step: 1 });
  yield encode({ trace: { machine: "run", from: payload, symbol: payload, to: payload } });
  yield encode({ reasoning: payload });
  yield encode({ refusal: payload });
  yield encode({ citation: { url: payload, [payload]: payload } });
  yield encode({ provider_tool: { name: payload } });
  for (const id of ["broken", "done", "failed", "running"]) {
    yield call(id);
    for (const unit of payload) yield call(id, { delta: unit });
  }
  yield SHOWN;
  yield call("broken", { fault: payload });
  for (const id of ["done", "failed", "running"]) yield call(id, { arguments: { [payload]: payload } });
  yield encode({ tool_calls: [payload, payload, payload] });
  yield encode({ tool_result: { id: "done", name: payload, content: payload } });
  yield encode({ tool_result: { id: "failed", name: payload, content: payload, is_error: true } });
  yield encode({ tool_progress: { id: "running", name: payload, data: { [payload]: payload } } });
  yield encode({ activity: payload, call_id: "running" });
  yield encode({ content: payload });
  yield HELD;
  yield encode({ error: { code: payload, message: payload }, usage: { input_tokens: 1, output_tokens: 1 } });
};

/** The same, as one who comes late gets it: all at once. */
window.late = function* (payload) {
  const text = ["text", "reasoning", "refusal"].map((type) => ({ type, text: payload }));
  const call = { type: "tool_call", id: payload, name: payload, arguments: payload, activity: payload, progress: payload };
  const parts = [...text, { type: "provider_tool", name: payload }, call, { ...call, id: "2", result: { content: payload } }];
  const encode = encoder();
  yield encode({ run: { id: payload, model: payload } });
  yield encode({ gap: { after: 1, until: 2, parts, step: 1 } });
  yield HELD;
  yield encode(DONE);
};

const ELEMENTS = new Set(
  `div p h1 h2 h3 h4 h5 h6 ul ol li blockquote figure figcaption pre code span button table thead tbody tr th td em strong del
   a br hr input section sup details summary dl dt dd svg path`.split(/\s+/),
);

/** What is in the answers that is neither text nor harmless. Whoever listens there for an event hears it. */
window.strangers = () =>
  [...document.querySelectorAll(".answer *")].flatMap((element) => {
    for (const type of ["load", "error", "toggle", "focus", "mouseover"]) element.dispatchEvent(new Event(type));
    const names = element.getAttributeNames();
    const isAway = element.matches("a") && !["http:", "https:", "mailto:"].includes(element.protocol);
    return [
      ...(ELEMENTS.has(element.localName) ? [] : [element.localName]),
      ...names.filter((name) => /^on|^style$|src|action|data$|poster|xlink|http-equiv/.test(name)),
      ...(isAway && !element.getAttribute("href").startsWith("#") ? [element.href] : []),
    ];
  });
