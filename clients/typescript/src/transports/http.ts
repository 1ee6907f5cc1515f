// Transport layer: what SSE and polls share: requests with a token, the contract's errors, and the way up by `POST /rpc`.

import { bytesOf, checkSize, decode, encode, MEDIA } from "../codec.js";
import { adviceAfter, lost, RoundtableError } from "../errors.js";
import { MAX_BATCH, type ErrorBody, type ServerMessage, type SSEEvent } from "../generated.js";
import type { Dialing, LinkEvents } from "../link.js";
import type { Upward } from "../requests.js";

/** Milliseconds for an answer. The gateway gives up on a service well before. */
export const ANSWER_WITHIN = 20_000;
const CONGESTED = 8;

export interface Call {
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  signal: AbortSignal;
}

/** A response that says yes. Throws `RoundtableError`: the server's own, or `connection_lost`. */
export async function call(to: Dialing, url: string, { headers, body, signal }: Call, on?: LinkEvents): Promise<Response> {
  const { fetch } = to.platform;
  if (!fetch) throw lost("There is no fetch here");
  const token = to.token();
  let response: Response;
  try {
    response = await fetch(url, {
      method: body === undefined ? "GET" : "POST",
      headers: { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) },
      body: (body ?? null) as BodyInit | null,
      cache: "no-store",
      signal,
    });
  } catch {
    throw lost("The server cannot be reached");
  }
  if (response.ok) {
    on?.reached();
    return response;
  }
  let error: ErrorBody | undefined;
  try {
    error = ((await response.json()) as { error?: ErrorBody }).error;
  } catch {
    // somebody between us and the server
  }
  if (typeof error?.reason !== "string") throw lost(`The answer was HTTP ${response.status}`);
  on?.reached();
  throw RoundtableError.of(error);
}

export function eventOf({ id, type, data, timestamp }: SSEEvent): ServerMessage {
  return { type: "event", ...(id === undefined ? {} : { id }), method: type, data, timestamp } as ServerMessage;
}

/** Messages in the order of sending: one POST at a time, with all that has come up meanwhile. */
export class Upstream {
  /** Of the welcome; the server renews this connection's token, and knows a guest by it. */
  connection: string | undefined;
  private readonly waiting: { message: Upward; size: number }[] = [];
  private readonly abort = new AbortController();
  private busy = false;

  constructor(
    private readonly to: Dialing,
    private readonly on: LinkEvents,
  ) {}

  get congested(): boolean {
    return this.waiting.length > CONGESTED;
  }

  send(message: Upward): void {
    const size = bytesOf(encode(message, this.to.format));
    checkSize(size, this.to.limit());
    this.waiting.push({ message, size });
    if (!this.busy) void this.work();
  }

  close(): void {
    this.abort.abort();
  }

  private async work(): Promise<void> {
    this.busy = true;
    await undefined; // what is asked in the same breath goes together
    while (this.waiting.length && !this.abort.signal.aborted) await this.post(this.batch());
    this.busy = false;
  }

  private batch(): Upward[] {
    const batch: Upward[] = [];
    let size = 5; // of the array around them
    while (this.waiting.length && batch.length < MAX_BATCH) {
      size += this.waiting[0]!.size + 1;
      if (batch.length && size > this.to.limit()) break;
      batch.push(this.waiting.shift()!.message);
    }
    return batch;
  }

  private async post(batch: Upward[]): Promise<void> {
    const { to, on } = this;
    const { signal } = this.abort;
    const stop = to.clock.after(ANSWER_WITHIN, () => this.abort.abort());
    try {
      const url = to.address.of("rpc", { room: to.room, connection: this.connection });
      const body = encode(batch.length === 1 ? batch[0] : batch, to.format);
      const headers = { "Content-Type": MEDIA[to.format], Accept: MEDIA[to.format] };
      const answer = await read(await call(to, url, { headers, body, signal }), to);
      for (const message of [answer].flat() as ServerMessage[]) on.received(message);
    } catch (thrown) {
      const error = thrown instanceof RoundtableError ? thrown : lost("The server's answer cannot be read");
      const advice = adviceAfter(error);
      if (advice !== "mend" && advice !== "wait") {
        on.lost(error);
        return;
      }
      for (const { id, method } of batch) {
        on.received({ type: "error", id, method, error, timestamp: to.clock.now() } as ServerMessage);
      }
    } finally {
      stop();
    }
  }
}

export async function read(response: Response, { format }: Dialing): Promise<unknown> {
  return decode(format === "json" ? await response.text() : await response.arrayBuffer(), format);
}
