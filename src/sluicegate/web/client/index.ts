export { Chat, type ChatOptions } from "./chat.js";
export type { ChatSnapshot, ChatStatus } from "./conversation.js";
export { ChatError, type Code, type Failure } from "./errors.js";
export { textOf, toRequest, type ChatMessage } from "./message.js";
export { RESUME, type Resume } from "./outage.js";
export type { ChatRequest, RequestMessage, RequestPart } from "./request.js";
export { Stream, type ResumeToken, type StreamOptions, type StreamStatus } from "./stream.js";
export { Transcript, type Ending, type Part, type ToolCallPart } from "./transcript.js";
export type * from "./wire.js";
