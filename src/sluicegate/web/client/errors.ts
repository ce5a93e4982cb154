import type { ErrorCode } from "./wire.js";

/**
 * Every way in which an answer fails: the codes of the wire (specs/wire.md), and two that only a client can tell.
 * `CONNECTION_LOST`: the rest of the answer cannot be had any more. `BAD_ANSWER`: what came is not the native wire.
 */
export type Code = ErrorCode | "CONNECTION_LOST" | "BAD_ANSWER";

export interface Failure {
  readonly code: Code;
  /** For people; never a provider's own words. */
  readonly message: string;
  /** The same request may succeed later. */
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
  /** The path of what is wrong in the request, such as `messages[0].content`. */
  readonly field?: string;
  /** The HTTP status, where the request was refused before its first byte. */
  readonly status?: number;
}

/** A request that was refused, or a stream that ended without its terminal frame. */
export class ChatError extends Error {
  override readonly name = "ChatError";

  constructor(readonly failure: Failure) {
    super(failure.message);
  }
}

/** A connection is of no more use, while the run may go on. Never leaves this package. */
export class Lost extends Error {
  constructor(
    reason: string,
    readonly retryAfterMs = 0,
  ) {
    super(reason);
  }
}

/** What an HTTP answer that is no stream says. Never throws: a proxy's page of HTML is an error like any other. */
export async function failureOf(response: Response): Promise<Failure> {
  const said = await response
    .json()
    .then((body: { error?: Record<string, unknown> }) => body.error ?? {})
    .catch((): Record<string, unknown> => ({}));
  const seconds = Number(response.headers.get("Retry-After") ?? "");
  const retryAfterMs = typeof said.retry_after_ms === "number" ? said.retry_after_ms : seconds * 1000;
  return {
    code: typeof said.code === "string" ? (said.code as Code) : response.status < 500 ? "INVALID_REQUEST" : "UPSTREAM_ERROR",
    message: typeof said.message === "string" ? said.message : `The server answered with HTTP status ${response.status}.`,
    retryable: said.retryable === true || response.status === 429 || response.status >= 500,
    status: response.status,
    ...(retryAfterMs > 0 && { retryAfterMs }),
    ...(typeof said.field === "string" && { field: said.field }),
  };
}
