/** What `POST /chat` takes (specs/wire.md); the stream sets `on_disconnect` itself. */
export interface ChatRequest {
  readonly messages: readonly RequestMessage[];
  readonly model?: string;
  readonly system?: string;
  /** Names of the server's tools that the run may use; default: all, `[]`: none. */
  readonly tools?: readonly string[];
  readonly max_output_tokens?: number;
  readonly temperature?: number;
}

export interface RequestMessage {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool";
  readonly content: string | readonly RequestPart[];
  readonly tool_calls?: readonly { readonly id: string; readonly name: string; readonly arguments: unknown }[];
  readonly tool_call_id?: string;
}

export type RequestPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image_url"; readonly image_url: { readonly url: string } };

/** A name that nobody else takes. `crypto.randomUUID` is there on secure pages only. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
