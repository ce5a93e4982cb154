import type { ChatMessage, ChatStatus, Code, Failure } from "../client/index.js";

interface Words {
  readonly title: string;
  readonly advice: string;
}

/** What each code means to the reader of an answer, and what to do. */
const WORDS: Record<Code, Words> = {
  RATE_LIMITED: { title: "Too many requests", advice: "Wait a little, then try again." },
  CONTEXT_LENGTH: { title: "The conversation is too long", advice: "Start a new one, or ask with less text." },
  CONTENT_FILTER: { title: "The model declined to answer", advice: "Ask in other words." },
  UPSTREAM_ERROR: { title: "The model's provider failed", advice: "Try again. If it stays so, choose another model." },
  TIMEOUT: { title: "It took too long", advice: "Try again, or ask for less at once." },
  BUDGET_EXCEEDED: { title: "The budget is used up", advice: "Ask whoever runs this service, or try again tomorrow." },
  TOOL_LOOP: { title: "The model went round in circles", advice: "Ask in other words, or for one thing at a time." },
  INVALID_REQUEST: { title: "The request was not understood", advice: "Change what the message names, then try again." },
  UNAUTHORIZED: { title: "Not allowed", advice: "Check the API key in the settings." },
  OVERLOADED: { title: "The service is busy", advice: "Try again in a moment." },
  CANCELLED: { title: "Stopped", advice: "What had come is kept. Try again for a whole answer." },
  SHUTTING_DOWN: { title: "The service is restarting", advice: "Try again in a moment." },
  REPLICA_LOST: { title: "The server was lost", advice: "Try again for a whole answer." },
  INTERNAL: { title: "Something went wrong", advice: "Try again." },
  CONNECTION_LOST: { title: "Connection lost", advice: "The answer is not complete. Try again for a whole one." },
  BAD_ANSWER: { title: "That was no answer", advice: "Something between this page and the service changes what it sends." },
};

export function explain(failure: Failure): Words {
  const known = WORDS[failure.code] ?? WORDS.INTERNAL;
  const seconds = Math.ceil((failure.retryAfterMs ?? 0) / 1000);
  return seconds ? { ...known, advice: `Try again in ${seconds} ${seconds === 1 ? "second" : "seconds"}.` } : known;
}

/** How the last answer ended, in a word or two; "" while it comes. */
export function newsOf(message: ChatMessage | undefined): string {
  if (!message?.ending) return "";
  return message.ending.type === "done" ? "Answer ready" : explain(message.ending.failure).title;
}

/** What the page says while an answer is under way; also to screen readers. */
export const STATUS: Record<ChatStatus, string> = {
  ready: "",
  queued: "Waiting: other tabs hold all connections to this server.",
  connecting: "Sending…",
  waiting: "Waiting for the first word…",
  streaming: "Answering…",
  reconnecting: "Connection lost. Reconnecting…",
};
