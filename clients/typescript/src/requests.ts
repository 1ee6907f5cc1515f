// Core layer: what was asked and is not answered yet (CL2, CL4). Time is given; knows no connection but a way to send.

import type { Clock } from "./clock.js";
import { adviceAfter, RoundtableError } from "./errors.js";
import { UNCOUNTED, type ErrorMessage, type ResponseMessage, type WSMessage } from "./generated.js";
import { jitter } from "./ladder.js";

/** A message on its way up; a request has an `id`. */
export type Upward = Partial<WSMessage> & Pick<WSMessage, "type">;

/** What waits for a connection at most. */
export const WAITING_AT_MOST = 1_000;
/** After a break that long ago the server may have forgotten the request's id, so that asking again would do it again. */
const FORGOTTEN_AFTER_BREAK = 4 * 60_000;
/** The same, from when it was first sent: the server remembers for 5 minutes. */
const FORGOTTEN_AFTER_SENT = 4 * 60_000 + 50_000;

interface Entry {
  message: Upward;
  /** Undefined for what nobody waits for. */
  settle: { resolve: (data: any) => void; reject: (error: RoundtableError) => void } | undefined;
  /** Not worth asking again after a break. */
  fleeting: boolean;
  /** On its way over the present connection. */
  inFlight: boolean;
  firstSent: number | undefined;
  /** Until when, if the caller said so; else the usual time, which runs while there is a connection. */
  deadline: number | undefined;
  /** When the timer that runs now ends it. */
  expires: number;
  /** Not to be sent again before. */
  notBefore: number;
  repeats: number;
  /** What the server said last; better than `timeout` to be rejected with. */
  error: RoundtableError | undefined;
  stopTimer: () => void;
}

export interface RequestsOptions {
  clock: Clock;
  /** Milliseconds. */
  usualTimeout: number;
  base: number;
  cap: number;
  /** A message that nobody waits for can't be sent. */
  failed: (error: RoundtableError) => void;
}

export interface AskOptions {
  timeout?: number | undefined;
  fleeting?: boolean;
}

export class Requests {
  /** In the order of asking, which is the order of sending, also again. */
  private readonly entries = new Map<string, Entry>();
  private transmit: ((message: Upward) => void) | undefined;
  private count = 0;
  private readonly prefix: string;
  /** Milliseconds between counted messages, while the server finds that we are too fast; 0: as they come. */
  private pace = 0;
  private nextAt = 0;
  private stopFlush = (): void => {};

  constructor(private readonly options: RequestsOptions) {
    const { clock } = options;
    this.prefix = Array.from({ length: 3 }, () => Math.floor(clock.random() * 0x100000000).toString(36)).join("");
  }

  get size(): number {
    return this.entries.size;
  }

  newId(): string {
    return `${this.prefix}-${(this.count += 1)}`;
  }

  ask(method: string, params: unknown, { timeout, fleeting = false }: AskOptions = {}): Promise<any> {
    return new Promise((resolve, reject) => {
      const { clock } = this.options;
      if (!this.hasRoom()) {
        reject(new RoundtableError(1013, "queue_full", `${WAITING_AT_MOST} requests wait for a connection already`));
        return;
      }
      const id = this.newId();
      const message: Upward = { type: "request", id, method, params: params ?? {} };
      const entry = this.add(id, message, { resolve, reject }, fleeting);
      if (timeout !== undefined) {
        entry.deadline = clock.now() + timeout;
        this.watch(id, entry, entry.deadline);
      }
      this.flush();
    });
  }

  /** Throws `RoundtableError` when too much waits. */
  tell(message: Upward): void {
    if (!this.transmit && UNCOUNTED.includes(message.method ?? "")) return; // of this moment only
    if (!this.hasRoom()) throw new RoundtableError(1013, "queue_full", `${WAITING_AT_MOST} messages wait already`);
    this.add(`tell ${(this.count += 1)}`, message, undefined, false);
    this.flush();
  }

  private hasRoom(): boolean {
    return this.transmit !== undefined || this.entries.size < WAITING_AT_MOST;
  }

  private add(key: string, message: Upward, settle: Entry["settle"], fleeting: boolean): Entry {
    const entry: Entry = {
      message, settle, fleeting, inFlight: false, firstSent: undefined, deadline: undefined, expires: Infinity,
      notBefore: 0, repeats: 0, error: undefined, stopTimer: () => {},
    };
    this.entries.set(key, entry);
    return entry;
  }

  // -- the connection comes and goes

  /** `transmit` may throw `RoundtableError` for a message that can't be sent at all. */
  opened(transmit: (message: Upward) => void): void {
    this.transmit = transmit;
    this.flush();
  }

  /** The connection broke. `culprit`: it did so because of what was on its way, which must not go again. */
  broken(culprit?: RoundtableError): void {
    if (!this.transmit) return;
    const now = this.options.clock.now();
    this.transmit = undefined;
    this.pace = 0;
    this.stopFlush();
    for (const [id, entry] of this.entries) {
      if (entry.firstSent === undefined) continue;
      if (entry.fleeting || (culprit && entry.inFlight)) {
        this.reject(id, culprit ?? new RoundtableError(1006, "connection_lost", "The connection broke"));
        continue;
      }
      entry.inFlight = false;
      entry.notBefore = 0;
      entry.error = undefined;
      const remembered = Math.min(now + FORGOTTEN_AFTER_BREAK, entry.firstSent + FORGOTTEN_AFTER_SENT);
      this.watch(id, entry, Math.min(remembered, entry.deadline ?? remembered));
    }
  }

  /** Nothing will be answered any more. */
  end(error: RoundtableError): void {
    this.transmit = undefined;
    this.stopFlush();
    for (const id of [...this.entries.keys()]) this.reject(id, error);
  }

  // -- answers

  /** False when nobody waits for it. */
  answered(message: ResponseMessage | ErrorMessage): boolean {
    const id = message.id ?? "";
    const entry = this.entries.get(id);
    if (!entry) return false;
    if (message.type === "response") {
      this.remove(id, entry);
      entry.settle?.resolve(message.data);
    } else {
      this.refused(id, entry, RoundtableError.of(message.error));
    }
    this.flush();
    return true;
  }

  /** What the contract lets us repeat is repeated while there is time. */
  private refused(id: string, entry: Entry, error: RoundtableError): void {
    const { clock } = this.options;
    const advice = adviceAfter(error);
    let pause: number;
    if (advice === "wait") {
      pause = (error.retryAfter ?? 1) * 1000;
      // One at a time from now on: all at once would be refused again, and for that we'd be thrown out.
      this.pace = Math.max(this.pace, Math.min(pause, 1000));
      this.nextAt = Math.max(this.nextAt, clock.now() + pause);
      pause = this.nextAt - clock.now();
    } else if (advice === "backoff" || advice === "reconnect") {
      pause = jitter((entry.repeats += 1), { ...this.options, random: () => clock.random() });
    } else {
      this.reject(id, error);
      return;
    }
    if (entry.fleeting || clock.now() + pause >= entry.expires) {
      this.reject(id, error);
      return;
    }
    entry.error = error;
    entry.inFlight = false;
    entry.notBefore = clock.now() + pause;
  }

  // -- sending

  private flush(): void {
    const { clock } = this.options;
    this.stopFlush();
    let wake = Infinity;
    let held = false;
    for (const [id, entry] of this.entries) {
      if (!this.transmit) return;
      if (entry.inFlight) continue;
      const now = clock.now();
      const counted = !UNCOUNTED.includes(entry.message.method ?? "");
      const from = this.pace && counted ? Math.max(entry.notBefore, this.nextAt) : entry.notBefore;
      if (from > now) {
        held = true;
        wake = Math.min(wake, from);
        continue;
      }
      if (this.pace && counted) this.nextAt = now + this.pace;
      this.send(id, entry);
    }
    if (!held) this.pace = 0;
    if (wake < Infinity) this.stopFlush = clock.after(wake - clock.now(), () => this.flush());
  }

  private send(id: string, entry: Entry): void {
    const { clock, usualTimeout, failed } = this.options;
    const now = clock.now();
    entry.inFlight = true;
    entry.firstSent ??= now;
    // A repetition that the server wished for has the time that is left of the first try.
    if (!entry.error) this.watch(id, entry, entry.deadline ?? now + usualTimeout);
    if (!entry.settle) this.remove(id, entry);
    try {
      this.transmit!({ timestamp: now, ...entry.message });
    } catch (error) {
      if (!(error instanceof RoundtableError)) throw error;
      if (entry.settle) this.reject(id, error);
      else failed(error);
    }
  }

  // -- ends

  private watch(id: string, entry: Entry, expires: number): void {
    const { clock } = this.options;
    entry.stopTimer();
    entry.expires = expires;
    entry.stopTimer = clock.after(Math.max(0, expires - clock.now()), () => {
      this.reject(id, entry.error ?? new RoundtableError(1006, "timeout", `No answer to ${entry.message.method} came in time`));
    });
  }

  private remove(id: string, entry: Entry): void {
    entry.stopTimer();
    this.entries.delete(id);
  }

  private reject(id: string, error: RoundtableError): void {
    const entry = this.entries.get(id);
    if (!entry) return;
    this.remove(id, entry);
    entry.settle?.reject(error);
  }
}
