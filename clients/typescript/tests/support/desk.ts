// Test layer: a core whose server is the test: it sees what is dialled and sent, and says what comes back.

import assert from "node:assert/strict";
import { Address } from "../../src/address.js";
import { Core, type CoreOptions } from "../../src/core.js";
import { RoundtableError } from "../../src/errors.js";
import { closed } from "../../src/errors.js";
import type { ServerMessage, Transport, Welcome } from "../../src/generated.js";
import type { Dialing, Link, LinkEvents } from "../../src/link.js";
import type { Upward } from "../../src/requests.js";
import { settled, TestClock } from "./clock.js";

export class TestLink implements Link {
  readonly sent: Upward[] = [];
  closed = false;
  congested = false;
  /** Hears what is sent, as it is sent. */
  onSend: (message: Upward) => void = () => {};

  constructor(
    readonly transport: Transport,
    readonly to: Dialing,
    private readonly on: LinkEvents,
    private readonly lively: boolean,
  ) {}

  send(message: Upward): void {
    assert(!this.closed, "a closed link was sent to");
    this.sent.push(message);
    this.onSend(message);
    if (this.lively && message.method === "heartbeat") queueMicrotask(() => void this.answer(message, { serverTime: 0 }));
  }

  close(): void {
    this.closed = true;
  }

  /** What was sent of a method, heartbeats being everywhere. */
  asked(method?: string): Upward[] {
    return this.sent.filter((each) => (method ? each.method === method : each.method !== "heartbeat"));
  }

  hear(message: object): void {
    this.on.received({ timestamp: 0, ...message } as ServerMessage);
  }

  event(method: string, data: object = {}, id?: string): void {
    this.hear({ type: "event", method, data, ...(id === undefined ? {} : { id }) });
  }

  async welcome({ cursor = "c0", ...said }: Partial<Welcome> = {}): Promise<void> {
    this.on.reached();
    const data = {
      connectionId: "connection", userId: "ann", username: "Ann", role: "player", room: "lobby", transport: this.transport,
      cursor, recovered: this.to.cursor !== undefined, tokenExpiresAt: null, heartbeatInterval: 30_000,
      limits: { messageBytes: 65_536, messagesPerMinute: 100, cursorHz: 60 }, server: { name: "test", version: "0" }, ...said,
    };
    this.event("session.welcome", data, cursor);
    if (!data.recovered) {
      for (const [name, field] of [["canvas", "operations"], ["presence", "presence"], ["activity", "activities"]] as const) {
        this.event(`${name}.snapshot`, { [field]: [], more: false });
      }
    }
    await settled();
  }

  async answer(request: Upward | undefined, data: object = {}): Promise<void> {
    assert(request, "nothing was asked");
    this.hear({ type: "response", id: request.id, method: request.method, data });
    await settled();
  }

  async refuse(request: Upward | undefined, code: number, reason: string, retryAfter?: number): Promise<void> {
    assert(request, "nothing was asked");
    const error = { code, reason, message: `because of ${reason}`, ...(retryAfter === undefined ? {} : { retryAfter }) };
    this.hear({ type: "error", id: request.id, method: request.method, error });
    await settled();
  }

  /** The connection ends as a close frame says, or without a word. */
  async lose(code = 1006, reason = ""): Promise<void> {
    this.closed = true;
    if (code !== 1006) this.on.reached();
    this.on.lost(closed(code, reason));
    await settled();
  }

  async fail(error: RoundtableError): Promise<void> {
    this.closed = true;
    this.on.reached();
    this.on.lost(error);
    await settled();
  }
}

export interface DeskOptions extends Partial<CoreOptions> {
  transports?: Transport[];
  /** Heartbeats are answered without the test's doing. */
  lively?: boolean;
  /** Hears of each link that is dialled, before anything happens on it. */
  onDial?: (link: TestLink) => void;
}

export class Desk {
  readonly clock = new TestClock();
  /** All that were dialled, in order. */
  readonly links: TestLink[] = [];
  readonly core: Core;
  /** What the client told, as `name` or `name detail`. */
  readonly told: string[] = [];

  constructor({ transports = ["websocket"], lively = true, onDial = () => {}, ...options }: DeskOptions = {}) {
    this.core = new Core({
      clock: this.clock,
      rungs: transports.map((transport) => ({
        transport,
        dial: (to: Dialing, on: LinkEvents) => {
          const link = new TestLink(transport, to, on, lively);
          this.links.push(link);
          onDial(link);
          return link;
        },
      })),
      dialing: {
        address: new Address("ws://test"), room: "lobby", format: "json",
        platform: { WebSocket: undefined, fetch: undefined, EventSource: undefined, streams: true },
      },
      getToken: undefined, token: undefined, cursor: undefined, reconnect: true, persistent: true, maxReconnectAttempts: 5,
      reconnectDelay: 1_000, maxReconnectDelay: 30_000, probeInterval: 30_000, heartbeatInterval: 30_000,
      heartbeatTimeout: 10_000, connectTimeout: 10_000, requestTimeout: 30_000, eventFilter: undefined, ...options,
    });
    const { events } = this.core;
    for (const name of ["connected", "offline"]) events.on(name, () => this.told.push(name));
    events.on("transport", (transport: string) => this.told.push(`transport ${transport}`));
    events.on("disconnected", ({ reason }: { reason: string }) => this.told.push(`disconnected ${reason}`));
    events.on("reconnecting", ({ transport }: { transport: string }) => this.told.push(`reconnecting ${transport}`));
    events.on("error", ({ reason }: RoundtableError) => this.told.push(`error ${reason}`));
  }

  /** The latest that was dialled. */
  get link(): TestLink {
    const link = this.links[this.links.length - 1];
    assert(link, "nothing was dialled");
    return link;
  }

  /** Connects, and returns the link in use. */
  async open(): Promise<TestLink> {
    const connected = this.core.connect();
    await settled();
    await this.link.welcome();
    await connected;
    return this.link;
  }

  /** Moves on until the next dial, at most so long; the milliseconds that it took. */
  async untilDialled(atMost = 60_000): Promise<number> {
    const count = this.links.length;
    const began = this.clock.now();
    while (this.links.length === count) {
      const next = Math.max(this.clock.waiting[0] ?? Infinity, 0);
      assert(this.clock.now() + next - began <= atMost, `nothing was dialled within ${atMost} ms`);
      await this.clock.advance(next);
    }
    return this.clock.now() - began;
  }
}

export interface Outcome {
  state: "waits" | "resolved" | "rejected";
  times: number;
  value?: any;
  reason?: string;
}

/** What becomes of a promise, and how often it settles. */
export function watched(promise: Promise<unknown>): Outcome {
  const outcome: Outcome = { state: "waits", times: 0 };
  promise.then(
    (value) => Object.assign(outcome, { state: "resolved", times: outcome.times + 1, value }),
    (error: RoundtableError) => Object.assign(outcome, { state: "rejected", times: outcome.times + 1, reason: error.reason, value: error }),
  );
  return outcome;
}
