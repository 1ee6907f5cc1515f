// Face layer: what every client can do, whatever carries its messages. Types alone.

import type { CanvasDrawAnswer, Point, Tool, Transport, Welcome, WSMessage } from "./generated.js";
import type { ClientState, Handler, ParamsOf, ResultOf } from "./types.js";

export interface Client {
  /** The place in the room's events up to which handlers have heard all. Survives reconnects and changes of transport. */
  readonly cursor: string | undefined;
  /** Milliseconds there and back, of the last heartbeat. */
  readonly latency: number | undefined;
  /** In use now; undefined without a connection. */
  readonly transport: Transport | undefined;
  readonly connectionId: string | undefined;
  readonly state: ClientState;
  /** The latest welcome: who one is, in which room, with which limits. */
  readonly welcome: Welcome | undefined;

  /** Resolves with the welcome. Rejects with a `RoundtableError` when the server refuses for good, or nothing works. */
  connect(): Promise<Welcome>;
  /** Ends it: what waits for an answer is rejected with `closed`. `connect()` begins again from the same cursor. */
  disconnect(): void;
  /** Try at once to come back, or see at once whether the connection lives. A browser's own signs do the same. */
  wake(): void;
  /**
   * Resolves with the answer's data, or rejects with a `RoundtableError`. Without a connection it waits for one, and
   * what a break interrupts is asked again with its id. `timeout` counts from now, with a connection or without.
   */
  request<M extends string>(method: M, params?: ParamsOf<M>, timeout?: number): Promise<ResultOf<M>>;
  /** Sends any message, for which no answer is awaited. `timestamp` is filled in. */
  send(message: Partial<WSMessage> & Pick<WSMessage, "type">): void;
  /** Returns what takes the handler off again. */
  on<E extends string>(event: E, handler: Handler<E>): () => void;
  off<E extends string>(event: E, handler: Handler<E>): void;

  /** Shows others where one points: at most as often as the server tells it on, the latest wins. */
  point(x: number, y: number): void;
  /** A line as it grows under a hand. */
  stroke(style?: StrokeStyle): Stroke;
}

export interface StrokeStyle {
  tool?: Extract<Tool, "pen" | "eraser">;
  color?: string;
  size?: number;
  /** Points nearer than this to the last one are left out, in map units. Default 0.5. */
  tolerance?: number;
}

/** Others see it grow; it is stored as one operation when it ends, so one undo takes it back. */
export interface Stroke {
  /** Of the previews and of the stored operation. */
  readonly id: string;
  readonly points: readonly Point[];
  add(x: number, y: number): void;
  end(timeout?: number): Promise<CanvasDrawAnswer>;
}
