export { useStreamingChat, type UseStreamingChat } from "./useStreamingChat.js";
export type { ChatMessage, ChatOptions, ChatStatus, Code, Ending, Failure, Part, ToolCallPart } from "../client/index.js";
