// Port: one connection to the server, over whatever transport. Knows no retries.

import type { Address } from "./address.js";
import type { Clock } from "./clock.js";
import type { Format } from "./codec.js";
import type { RoundtableError } from "./errors.js";
import type { ServerMessage, Transport } from "./generated.js";
import type { Upward } from "./requests.js";

export interface Link {
  /** Throws `RoundtableError` for a message that is too big. */
  send(message: Upward): void;
  /** For good and without a word: `LinkEvents` hears nothing more. */
  close(): void;
  /** Much waits to be sent: what is of this moment only had better be left out. */
  readonly congested: boolean;
}

export interface LinkEvents {
  /** The server said something, be it no. */
  reached(): void;
  received(message: ServerMessage): void;
  /** Once, and nothing after it. */
  lost(error: RoundtableError): void;
}

/** What the platform has, or the application gave in its place. */
export interface Platform {
  WebSocket: (new (url: string, protocols?: string[]) => WebSocket) | undefined;
  fetch: typeof fetch | undefined;
  EventSource: (new (url: string) => EventSource) | undefined;
  /** Whether a response can be read while it comes. */
  streams: boolean;
}

export interface Dialing {
  address: Address;
  platform: Platform;
  clock: Clock;
  room: string | undefined;
  cursor: string | undefined;
  /** The latest one, as it may be refreshed while the link lives. */
  token: () => string | undefined;
  format: Format;
  /** Bytes that a message may have. */
  limit: () => number;
}

/** Returns at once; throws what makes it useless to try. */
export type Dial = (to: Dialing, on: LinkEvents) => Link;

export type Dials = Readonly<Partial<Record<Transport, Dial>>>;
