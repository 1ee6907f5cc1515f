// Face layer: all that an application may import.

import type { Client } from "./face.js";
import type { ClientOptions, RealtimeOptions } from "./types.js";

export declare class WebSocketClient { constructor(url: string, options?: ClientOptions); }
export declare interface WebSocketClient extends Client {}
export declare class SSEClient { constructor(url: string, options?: ClientOptions); }
export declare interface SSEClient extends Client {}
export declare class PollingClient { constructor(url: string, options?: ClientOptions); }
export declare interface PollingClient extends Client {}
/** WebSocket, else server-sent events, else long poll, else offline; and the way back up. Default address: the page's host. */
export declare class RealtimeClient { constructor(url?: string, options?: RealtimeOptions); }
export declare interface RealtimeClient extends Client {}

export { RoundtableError, type Reason, type LocalReason } from "./errors.js";
export type { Clock } from "./clock.js";
export type * from "./face.js";
export type * from "./types.js";
export type * from "./generated.js";
