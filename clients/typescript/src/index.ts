// Face layer: all that an application may import.

export { PollingClient, RealtimeClient, SSEClient, WebSocketClient } from "./client.js";
export { RoundtableError, type LocalReason, type Reason } from "./errors.js";
export type { Clock } from "./clock.js";
export type * from "./face.js";
export type * from "./types.js";
export type * from "./generated.js";
