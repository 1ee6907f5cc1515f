// Core layer: one client's life: dials, hears, breaks, comes back, on one cursor (CL1 to CL4). Time and links are given.

import { Attempt, type AttemptEvents } from "./attempt.js";
import type { Clock } from "./clock.js";
import { Emitter } from "./emitter.js";
import { adviceAfter, lost, RoundtableError } from "./errors.js";
import type { EventMessage, ServerMessage, Transport, Welcome } from "./generated.js";
import { Ladder } from "./ladder.js";
import type { Dial, Dialing } from "./link.js";
import { Place } from "./place.js";
import { Requests } from "./requests.js";
import type { Aliases, ClientOptions, ClientState } from "./types.js";

const MESSAGE_BYTES = 65_536;
const ALIASES: Readonly<Record<string, keyof Aliases>> = {
  "canvas.draw": "draw",
  "canvas.clear": "clear",
  "canvas.undo": "undo",
  "canvas.redo": "redo",
};

export interface CoreOptions {
  clock: Clock;
  /** Best first. */
  rungs: readonly { transport: Transport; dial: Dial }[];
  dialing: Pick<Dialing, "address" | "platform" | "room" | "format">;
  getToken: (() => unknown) | undefined;
  token: string | undefined;
  cursor: string | undefined;
  reconnect: boolean;
  /** When no transport works: `offline`, and a look from time to time; else it is the end. */
  persistent: boolean;
  maxReconnectAttempts: number;
  reconnectDelay: number;
  maxReconnectDelay: number;
  probeInterval: number;
  heartbeatInterval: number;
  heartbeatTimeout: number;
  connectTimeout: number;
  requestTimeout: number;
  eventFilter: ClientOptions["eventFilter"];
}

interface Waiter {
  resolve: (welcome: Welcome) => void;
  reject: (error: RoundtableError) => void;
}

type Outcome = Pick<AttemptEvents, "welcomed" | "failed">;

export class Core {
  readonly events = new Emitter();
  readonly requests: Requests;
  state: ClientState = "idle";
  latency: number | undefined;
  welcome: Welcome | undefined;

  readonly clock: Clock;
  private readonly ladder: Ladder;
  private readonly place: Place;
  private token: string | undefined;
  /** In use. */
  private current: Attempt | undefined;
  /** Dialled, while there is none in use. */
  private dialled: Attempt | undefined;
  /** A better one, dialled beside the one in use. */
  private candidate: Attempt | undefined;
  private waiters: Waiter[] = [];
  private heardAt = 0;
  private stopRetry: (() => void) | undefined;
  /** The server said how long to wait. */
  private patient = false;
  private stopBeat = (): void => {};
  private stopProbe = (): void => {};
  private lastTransport: Transport | undefined;

  constructor(private readonly options: CoreOptions) {
    const { clock, reconnectDelay: base, maxReconnectDelay: cap } = options;
    this.clock = clock;
    this.token = options.token;
    this.place = new Place(options.cursor);
    this.requests = new Requests({
      clock, base, cap, usualTimeout: options.requestTimeout, failed: (error) => this.events.emit("error", error),
    });
    this.ladder = new Ladder(options.rungs.length, {
      retries: options.reconnect ? options.maxReconnectAttempts : 0, base, cap, random: () => clock.random(),
    });
  }

  get cursor(): string | undefined {
    return this.place.cursor;
  }

  get transport(): Transport | undefined {
    return this.current && this.options.rungs[this.current.rung]!.transport;
  }

  /** Whether what is of this moment only would go out now. */
  get fluent(): boolean {
    return this.current?.link !== undefined && !this.current.link.congested;
  }

  // -- what the application and its page want

  connect(): Promise<Welcome> {
    if (this.current && this.welcome) return Promise.resolve(this.welcome);
    return new Promise((resolve, reject) => {
      this.waiters.push({ resolve, reject });
      if (this.state === "idle" || this.state === "closed") {
        this.become("connecting");
        this.ladder.restart();
        this.dial();
      } else this.wake();
    });
  }

  disconnect(): void {
    const connected = this.current !== undefined;
    if (this.state === "closed" || this.state === "idle") return;
    this.end(new RoundtableError(1000, "closed", "The client was disconnected"));
    if (connected) this.events.emit("disconnected", { code: 1000, reason: "bye", reconnecting: false });
  }

  /** Something may have changed: see at once whether the connection lives, or try at once to have one. */
  wake(): void {
    if (this.current) {
      this.beat();
      this.lookUp(0);
    } else if (this.stopRetry && !this.patient) this.dial();
  }

  /** The page goes out of sight with all its state; a connection would keep it from that. */
  suspend(): void {
    if (this.state === "closed" || this.state === "idle") return;
    const connected = this.current !== undefined;
    this.drop();
    this.requests.broken();
    this.patient = false;
    this.stopRetry = () => {};
    if (!connected) return;
    this.become("reconnecting");
    this.events.emit("disconnected", { code: 1000, reason: "bye", reconnecting: true });
  }

  // -- dialling

  private dial(): void {
    this.stopRetry?.();
    this.stopRetry = undefined;
    this.dialled = this.attempt(this.ladder.rung, {
      welcomed: (attempt, message) => {
        this.dialled = undefined;
        this.take(attempt, message);
      },
      failed: (error) => {
        this.dialled = undefined;
        this.afterFailure(error);
      },
    });
  }

  private attempt(rung: number, outcome: Outcome): Attempt {
    const { rungs, dialing, connectTimeout } = this.options;
    const to = (): Dialing => ({
      ...dialing,
      clock: this.clock,
      cursor: this.cursor,
      token: () => this.token,
      limit: () => this.welcome?.limits.messageBytes ?? MESSAGE_BYTES,
    });
    return new Attempt(rung, this.clock, connectTimeout, () => this.getToken(), (on) => rungs[rung]!.dial(to(), on), {
      ...outcome,
      reached: () => this.ladder.reached(rung),
      received: (message) => this.received(message),
      broke: (error) => this.broke(error),
    });
  }

  private async getToken(): Promise<void> {
    const { getToken } = this.options;
    if (!getToken) return;
    const token = await getToken();
    this.token = typeof token === "string" && token ? token : undefined;
  }

  // -- a connection comes about

  private take(attempt: Attempt, message: EventMessage<"session.welcome">): void {
    const { data } = message;
    this.current = attempt;
    this.ladder.welcomed(attempt.rung);
    this.welcome = data;
    this.heardAt = this.clock.now();
    this.become("connected");
    this.tellTransport();
    this.events.emit("connected", data);
    for (const waiter of this.waiters.splice(0)) waiter.resolve(data);
    this.begin(attempt, message);
  }

  /** A better transport takes over; nobody need notice. */
  private swap(attempt: Attempt, message: EventMessage<"session.welcome">): void {
    const old = this.current;
    this.candidate = undefined;
    this.current = attempt;
    old?.cancel();
    this.requests.broken();
    this.ladder.welcomed(attempt.rung);
    this.welcome = message.data;
    this.tellTransport();
    this.begin(attempt, message);
  }

  private begin(attempt: Attempt, message: EventMessage<"session.welcome">): void {
    if (this.current === attempt) this.received(message);
    if (this.current !== attempt) return; // a handler has ended it
    this.requests.opened((up) => attempt.link!.send(up));
    if (this.current !== attempt) return;
    this.beat();
    this.lookUp();
  }

  private tellTransport(): void {
    const { transport } = this;
    if (transport !== this.lastTransport) this.events.emit("transport", (this.lastTransport = transport));
  }

  /** From time to time, whether a better transport has begun to work. */
  private lookUp(delay = this.probeDelay()): void {
    const { current } = this;
    if (!current || this.candidate) return;
    const tryRung = (rung: number): void => {
      this.candidate = undefined;
      if (rung >= current.rung) {
        this.lookUp();
        return;
      }
      this.candidate = this.attempt(rung, {
        welcomed: (attempt, message) => this.swap(attempt, message),
        failed: () => tryRung(rung + 1),
      });
    };
    this.stopProbe();
    if (current.rung > 0) this.stopProbe = this.clock.after(delay, () => tryRung(0));
  }

  /** Not all at the same moment. */
  private probeDelay(): number {
    return this.options.probeInterval * (0.8 + 0.2 * this.clock.random());
  }

  // -- a connection ends

  private broke(error: RoundtableError): void {
    const advice = adviceAfter(error);
    this.drop();
    this.requests.broken(advice === "mend" ? error : undefined);
    const reconnecting = this.options.reconnect && this.returnable(error);
    if (reconnecting) this.become("reconnecting");
    this.events.emit("disconnected", { code: error.code, reason: error.reason, reconnecting });
    if (this.state === "closed" || this.current || this.dialled) return; // a handler has decided otherwise
    if (reconnecting) this.afterFailure(error);
    else {
      this.end(error);
      this.tellError(error);
    }
  }

  private returnable(error: RoundtableError): boolean {
    const advice = adviceAfter(error);
    return advice !== "stop" && (advice !== "token" || this.options.getToken !== undefined);
  }

  private afterFailure(error: RoundtableError): void {
    const advice = adviceAfter(error);
    const step = this.returnable(error) ? this.ladder.failed(advice, error.retryAfter) : undefined;
    if (!step && !(this.options.persistent && this.options.reconnect && this.returnable(error))) {
      this.end(error);
      this.tellError(error);
      return;
    }
    this.patient = advice === "wait" && error.retryAfter !== undefined;
    const delay = step?.delay ?? this.probeDelay();
    this.stopRetry = this.clock.after(delay, () => this.dial());
    if (!step) {
      const before = this.state;
      this.become("offline");
      for (const waiter of this.waiters.splice(0)) waiter.reject(error);
      if (before !== "offline") this.events.emit("offline");
    } else if (this.state !== "offline") {
      const { transport } = this.options.rungs[this.ladder.rung]!;
      this.events.emit("reconnecting", { transport, attempt: step.attempt, delay });
    }
    this.tellError(error);
  }

  /** A gateway that goes away and a token that ends are no errors where we know what to do. */
  private tellError(error: RoundtableError): void {
    const advice = adviceAfter(error);
    if (advice !== "reconnect" && (advice !== "token" || this.state === "closed")) {
      this.events.emit("error", error);
    }
  }

  private drop(): void {
    this.stopRetry?.();
    this.stopRetry = undefined;
    this.stopBeat();
    this.stopProbe();
    for (const attempt of [this.current, this.dialled, this.candidate]) attempt?.cancel();
    this.current = this.dialled = this.candidate = undefined;
  }

  private end(error: RoundtableError): void {
    this.drop();
    this.become("closed");
    this.requests.end(error);
    for (const waiter of this.waiters.splice(0)) waiter.reject(error);
  }

  private become(state: ClientState): void {
    if (state === this.state) return;
    this.state = state;
    this.events.emit("state", state);
  }

  // -- what the server says

  private received(message: ServerMessage): void {
    this.heardAt = this.clock.now();
    if (message.type === "event") {
      if (!this.place.moves(message)) return;
      this.events.emit("message", message);
      this.tell(message);
      if (message.method === "session.token_expiring") void this.refresh();
    } else {
      this.events.emit("message", message);
      if (!this.requests.answered(message) && message.type === "error") {
        this.events.emit("error", RoundtableError.of(message.error));
      }
    }
  }

  private tell(message: EventMessage): void {
    const { method, data, id, timestamp } = message;
    const { eventFilter } = this.options;
    if (eventFilter && !eventFilter({ ...(id === undefined ? {} : { id }), type: method, data, timestamp })) return;
    this.events.emit(method, data, message);
    const alias = ALIASES[method];
    if (alias) this.events.emit(alias, data, message);
    this.events.emit("*", data, message);
  }

  // -- signs of life, and of who one is

  /** Measures the way there and back; a connection that says nothing at all meanwhile is given up. */
  private beat(): void {
    const { heartbeatInterval, heartbeatTimeout: timeout } = this.options;
    const { current } = this;
    this.stopBeat();
    if (!current || heartbeatInterval <= 0) return;
    this.stopBeat = this.clock.after(heartbeatInterval, () => this.beat());
    const began = this.clock.now();
    this.requests.ask("heartbeat", {}, { timeout, fleeting: true }).then(
      (data: unknown) => {
        this.latency = this.clock.now() - began;
        this.events.emit("latency", this.latency);
        this.events.emit("heartbeat", data);
      },
      ({ reason }: RoundtableError) => {
        if (reason === "timeout" && current === this.current && this.heardAt <= began) {
          this.broke(lost("The server no longer answers"));
        }
      },
    );
  }

  /** A new token in the living connection (AU3). */
  private async refresh(): Promise<void> {
    if (!this.options.getToken) return;
    try {
      await this.getToken();
      if (!this.token || !this.current) return;
      const { tokenExpiresAt, role } = await this.requests.ask("auth.refresh", { token: this.token }, { fleeting: true });
      if (this.welcome) this.welcome = { ...this.welcome, tokenExpiresAt, role };
    } catch (error) {
      // Not the end yet: when the old token is over, the server says so, and we come back with a new one.
      this.events.emit("error", error instanceof RoundtableError ? error : lost(`No new token: ${error}`));
    }
  }
}
