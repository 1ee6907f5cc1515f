// Face layer: what an application gives a client and hears from it. Types alone.

import type { Clock } from "./clock.js";
import type { RoundtableError } from "./errors.js";
import type {
  EventMessage, EventName, MethodName, Methods, ServerEvents, ServerMessage, SSEEvent, Transport, Welcome,
} from "./generated.js";

/** All times are milliseconds. */
export interface ClientOptions {
  /** Default: the address's `?room=`, else the token's, else `lobby`. */
  room?: string;
  /** A token that never changes. Where one ends, give `getToken`. */
  token?: string;
  /**
   * Called before each connect, and again shortly before the token ends. Nothing: come as a guest. What it throws is a
   * failed try, and the next follows; a `RoundtableError` whose reason stops a client, such as `forbidden`, is the end.
   */
  getToken?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Where an earlier client stood: all that came since is told. */
  cursor?: string;
  /** How messages travel. Default `json`. */
  protocol?: "json" | "msgpack";
  /** Come back after a break. Default true. */
  reconnect?: boolean;
  /** Retries of each transport, one after another. After the last one a `RealtimeClient` is `offline`, others end. Default 5. */
  maxReconnectAttempts?: number;
  /** The first pause is a random one up to this; each further one up to twice the last. Default 1,000. */
  reconnectDelay?: number;
  /** No pause is longer. Default 30,000. */
  maxReconnectDelay?: number;
  /** Between looks for a way back while offline, and for a better transport. Default 30,000. */
  probeInterval?: number;
  /** Between questions whether the connection lives, which also measure its latency. Default 30,000. */
  heartbeatInterval?: number;
  /** A connection that does not answer such a question within this is given up. Default 10,000. */
  heartbeatTimeout?: number;
  /** From dialling to the welcome. Default 10,000. */
  connectTimeout?: number;
  /** For an answer, while there is a connection. A request's own `timeout` counts from the call instead. Default 30,000. */
  requestTimeout?: number;
  /** Only events for which this is true reach handlers. They move the cursor all the same. */
  eventFilter?: (event: SSEEvent) => boolean;
  /** Tell others that one is `away` while the page is hidden. Default false. */
  autoAway?: boolean;
  /** In place of the platform's own. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocket;
  fetch?: typeof fetch;
  EventSource?: new (url: string) => EventSource;
  clock?: Clock;
}

export interface RealtimeOptions extends ClientOptions {
  /** Best first. Default: all three. */
  transports?: Transport[];
}

/**
 * `idle` before `connect()`; `connecting` until the first welcome; `reconnecting` between a break and the next one;
 * `offline` when no transport has worked, and a way back is looked for slowly; `closed` by `disconnect()` or for good.
 */
export type ClientState = "idle" | "connecting" | "connected" | "reconnecting" | "offline" | "closed";

export interface Disconnected {
  /** Of the close; 1006 when nobody said why. */
  code: number;
  reason: string;
  /** Whether the client tries to come back. */
  reconnecting: boolean;
}

export interface Reconnecting {
  transport: Transport;
  /** Of this transport, from 1. */
  attempt: number;
  /** Milliseconds until it begins. */
  delay: number;
}

/** The arguments of handlers of what the client itself tells. */
export interface LocalEvents {
  connected: [welcome: Welcome];
  disconnected: [why: Disconnected];
  reconnecting: [next: Reconnecting];
  /** A connection failed, or the server refused what was sent by `send()`. */
  error: [error: RoundtableError];
  /** Every message from the server, answers included. */
  message: [message: ServerMessage];
  /** A sign of life, with the server's clock. */
  heartbeat: [data: { serverTime: number }];
  /** Milliseconds there and back. */
  latency: [milliseconds: number];
  /** Which transport is in use now. */
  transport: [transport: Transport];
  /** No transport works; what is asked now waits. */
  offline: [];
  state: [state: ClientState];
}

/** Short names of the canvas's events. */
export interface Aliases {
  draw: "canvas.draw";
  clear: "canvas.clear";
  undo: "canvas.undo";
  redo: "canvas.redo";
}

type Told<E extends EventName> = [data: ServerEvents[E], message: EventMessage<E>];

/** The arguments of a handler, by the event's name. `*` hears every event of the server. */
export type HandlerArguments<E extends string> =
  E extends keyof LocalEvents ? LocalEvents[E]
  : E extends EventName ? Told<E>
  : E extends keyof Aliases ? Told<Aliases[E]>
  : E extends "*" ? [data: any, message: EventMessage]
  : any[];

export type Handler<E extends string> = (...args: HandlerArguments<E>) => void;

export type ParamsOf<M extends string> = M extends MethodName ? Methods[M]["params"] : any;
export type ResultOf<M extends string> = M extends MethodName ? Methods[M]["result"] : any;
