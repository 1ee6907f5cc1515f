// Face layer: the four clients: options and platform in, one core behind one face.

import { Address } from "./address.js";
import { systemClock } from "./clock.js";
import { Core } from "./core.js";
import type { AnyHandler } from "./emitter.js";
import { RoundtableError } from "./errors.js";
import type { Client, Stroke, StrokeStyle } from "./face.js";
import type { Transport, Welcome, WSMessage } from "./generated.js";
import type { Dial, Platform } from "./link.js";
import { pageIsHidden, watchPage } from "./page.js";
import { beginStroke } from "./stroke.js";
import { Throttle } from "./throttle.js";
import { dialPoll } from "./transports/poll.js";
import { dialSSE } from "./transports/sse.js";
import { dialWebSocket } from "./transports/websocket.js";
import type { ClientOptions, ClientState, Handler, ParamsOf, RealtimeOptions, ResultOf } from "./types.js";

const DIALS: Readonly<Record<Transport, Dial>> = { websocket: dialWebSocket, sse: dialSSE, poll: dialPoll };
const CURSOR_HZ = 60;

function platform(options: ClientOptions): Platform {
  const here = globalThis as Partial<typeof globalThis>;
  return {
    WebSocket: options.WebSocket ?? here.WebSocket,
    fetch: options.fetch ?? here.fetch?.bind(here),
    EventSource: options.EventSource ?? here.EventSource,
    streams: here.Response !== undefined && "body" in here.Response.prototype,
  };
}

class BaseClient implements Client {
  private readonly core: Core;
  private readonly throttledPoint: Throttle;
  private pointer = { x: 0, y: 0 };

  constructor(url: string, options: ClientOptions, transports: readonly Transport[], persistent = false) {
    const clock = options.clock ?? systemClock;
    const core = (this.core = new Core({
      clock,
      rungs: transports.map((transport) => ({ transport, dial: DIALS[transport] })),
      dialing: {
        address: new Address(url, typeof location === "undefined" ? undefined : location.href),
        platform: platform(options),
        room: options.room,
        format: options.protocol ?? "json",
      },
      getToken: options.getToken,
      token: options.token,
      cursor: options.cursor,
      reconnect: options.reconnect ?? true,
      persistent,
      maxReconnectAttempts: options.maxReconnectAttempts ?? 5,
      reconnectDelay: options.reconnectDelay ?? 1_000,
      maxReconnectDelay: options.maxReconnectDelay ?? 30_000,
      probeInterval: options.probeInterval ?? 30_000,
      heartbeatInterval: options.heartbeatInterval ?? 30_000,
      heartbeatTimeout: options.heartbeatTimeout ?? 10_000,
      connectTimeout: options.connectTimeout ?? 10_000,
      requestTimeout: options.requestTimeout ?? 30_000,
      eventFilter: options.eventFilter,
    }));
    this.throttledPoint = new Throttle(clock, () => this.ephemeralInterval, () => {
      if (core.fluent) this.send({ type: "event", method: "presence.cursor", params: this.pointer });
    });
    const away = (hidden: boolean): void => {
      if (options.autoAway && core.state === "connected") {
        this.request("presence.update", { status: hidden ? "away" : "online" }).catch(() => {});
      }
    };
    let unwatch = (): void => {};
    core.events.on("connected", () => pageIsHidden() && away(true));
    core.events.on("state", (state: ClientState) => {
      unwatch();
      const page = { wake: () => core.wake(), suspend: () => core.suspend(), hidden: away };
      unwatch = state === "closed" ? () => {} : watchPage(page);
    });
  }

  get cursor(): string | undefined {
    return this.core.cursor;
  }

  get latency(): number | undefined {
    return this.core.latency;
  }

  get transport(): Transport | undefined {
    return this.core.transport;
  }

  get connectionId(): string | undefined {
    return this.core.transport && this.core.welcome?.connectionId;
  }

  get state(): ClientState {
    return this.core.state;
  }

  get welcome(): Welcome | undefined {
    return this.core.welcome;
  }

  connect(): Promise<Welcome> {
    return this.core.connect();
  }

  disconnect(): void {
    this.core.disconnect();
  }

  wake(): void {
    this.core.wake();
  }

  request<M extends string>(method: M, params?: ParamsOf<M>, timeout?: number): Promise<ResultOf<M>> {
    if (this.core.state === "closed") return Promise.reject(disconnected());
    return this.core.requests.ask(method, params, { timeout });
  }

  send(message: Partial<WSMessage> & Pick<WSMessage, "type">): void {
    if (this.core.state === "closed") throw disconnected();
    this.core.requests.tell(message);
  }

  on<E extends string>(event: E, handler: Handler<E>): () => void {
    return this.core.events.on(event, handler as AnyHandler);
  }

  off<E extends string>(event: E, handler: Handler<E>): void {
    this.core.events.off(event, handler as AnyHandler);
  }

  point(x: number, y: number): void {
    this.pointer = { x, y };
    this.throttledPoint.run();
  }

  stroke(style: StrokeStyle = {}): Stroke {
    const { core } = this;
    return beginStroke(
      {
        clock: core.clock,
        interval: () => this.ephemeralInterval,
        fluent: () => core.fluent,
        tell: (method, params) => this.send({ type: "event", method, params }),
        draw: (operations, timeout) => this.request("canvas.draw", { operations }, timeout),
      },
      core.requests.newId(),
      style,
    );
  }

  /** Milliseconds: what comes oftener the server would merge. */
  private get ephemeralInterval(): number {
    return 1000 / (this.core.welcome?.limits.cursorHz || CURSOR_HZ);
  }
}

const disconnected = (): RoundtableError => new RoundtableError(1000, "closed", "The client is not connected");

/** Over a WebSocket alone. */
export class WebSocketClient extends BaseClient {
  constructor(url: string, options: ClientOptions = {}) {
    super(url, options, ["websocket"]);
  }
}

/** Over server-sent events, and `POST /rpc` for the way up. */
export class SSEClient extends BaseClient {
  constructor(url: string, options: ClientOptions = {}) {
    super(url, options, ["sse"]);
  }
}

/** Over long poll, and `POST /rpc` for the way up. */
export class PollingClient extends BaseClient {
  constructor(url: string, options: ClientOptions = {}) {
    super(url, options, ["poll"]);
  }
}

/** WebSocket, else server-sent events, else long poll, else offline; and the way back up. Without an address: the page's host. */
export class RealtimeClient extends BaseClient {
  constructor(url = "/", options: RealtimeOptions = {}) {
    super(url, options, options.transports ?? ["websocket", "sse", "poll"], true);
  }
}
