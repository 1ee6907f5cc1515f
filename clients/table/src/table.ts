// Wire layer: this page's seat at its table: a RealtimeClient whose events go into store and board, and the ways to ask for
// something. Knows no panel.

import { RealtimeClient, type RoundtableError } from "@roundtable/client";
import type {
  Activity, ActivityPost, ClientState, DoingNow, EventName, HandlerArguments, MethodName, ParamsOf, ResultOf, Visibility, Welcome,
} from "@roundtable/client";
import type { Board, Drawn } from "./board/board.js";
import { colorOf } from "./names.js";
import { Pace } from "./pace.js";
import { NoSeat, tokenSource, type Seat } from "./seat.js";
import type { Store } from "./store.js";
import { Strokes } from "./strokes.js";
import { inWords, REASONS } from "./words.js";

const DOING_LASTS = 4_000;
const PAGE = 50;
const HEARTBEAT = 5_000; // the page shows the latency

export interface Doors {
  /** Something went wrong, in words. */
  say(text: string): void;
  /** The table sent us away, or we left (an empty reason). */
  left(reason: string): void;
}

export class Table {
  private client: RealtimeClient | null = null;
  private strokes: Strokes | null = null;
  private pace = new Pace(0);
  private fresh = { canvas: true, presence: true, activity: true };
  private doing: DoingNow["type"] | null = null;
  private doingTimer = 0;
  private pending = 0;

  constructor(
    private readonly store: Store, private readonly board: Board, private readonly doors: Doors,
  ) {}

  get seated(): boolean {
    return this.client !== null;
  }

  sit(seat: Seat): void {
    const source = tokenSource(seat);
    const getToken = async (): Promise<string> => {
      try {
        return await source();
      } catch (error) {
        if (error instanceof NoSeat) this.leave(error.message);
        throw error;
      }
    };
    const client = new RealtimeClient(location.origin, { room: seat.room, getToken, heartbeatInterval: HEARTBEAT, autoAway: true });
    this.client = client;
    this.listen(client);
    // offline is told by its own event; what is for good comes by `disconnected`, or here when it never began
    client.connect().catch((error: RoundtableError) => {
      if (this.client === client && client.state === "closed") this.leave(error.reason);
    });
  }

  leave(reason = ""): void {
    const client = this.client;
    if (!client) return;
    this.client = null;
    clearTimeout(this.doingTimer);
    client.disconnect();
    this.board.forget();
    this.doors.left(REASONS[reason] ?? reason);
  }

  /** Tries now to come back, not at the next time. */
  wake(): void {
    this.client?.wake();
  }

  get unsent(): number {
    return this.pending + (this.strokes?.size ?? 0);
  }

  // -- asking

  /** The answer's data. Rejects with the server's error. */
  private async request<M extends MethodName>(method: M, params: ParamsOf<M>): Promise<ResultOf<M>> {
    if (!this.client) throw Object.assign(new Error("You are not at the table."), { reason: "closed" });
    this.pending += 1;
    this.count();
    try {
      return await this.client.request(method, params);
    } finally {
      this.pending -= 1;
      this.count();
    }
  }

  /** The answer's data, or undefined after having said in words what went wrong. */
  async ask<M extends MethodName>(method: M, params: ParamsOf<M>): Promise<ResultOf<M> | undefined> {
    this.pace.spend(Date.now());
    try {
      return await this.request(method, params);
    } catch (error) {
      if (this.client) this.doors.say(inWords(error as RoundtableError));
      return undefined;
    }
  }

  private tell(method: string, params: object): void {
    if (this.store.link.state === "open") this.client?.send({ type: "event", method, params });
  }

  /** Posts, and shows at once what comes back: of a blind roll nothing else will. */
  async share<T extends ActivityPost["type"]>(
    type: T, data: Extract<ActivityPost, { type: T }>["data"], more: { to?: string[]; visibility?: Visibility } = {},
  ): Promise<Activity | undefined> {
    const activity = await this.ask("activity.post", { type, data, ...more } as ActivityPost);
    if (activity) this.store.posted(activity);
    return activity;
  }

  async undo(userId?: string): Promise<void> {
    this.strokes?.flush();
    const answer = await this.ask("canvas.undo", userId ? { userId } : {});
    if (answer && !answer.undone.length) this.doors.say("There is nothing to undo.");
  }

  async redo(): Promise<void> {
    const answer = await this.ask("canvas.redo", {});
    if (answer && !answer.redone.length) this.doors.say("There is nothing to redo.");
  }

  async clear(scope: "all" | "mine"): Promise<void> {
    this.strokes?.flush();
    await this.ask("canvas.clear", { scope });
  }

  /** True: there may be still older ones. */
  async earlier(): Promise<boolean> {
    const first = this.store.feed[0];
    if (!first) return false;
    const answer = await this.ask("activity.list", { before: first.id, limit: PAGE });
    if (answer) this.store.older(answer.activities);
    return answer?.more ?? true;
  }

  // -- telling

  stroke(operation: Drawn): void {
    this.strokes?.push(operation);
  }

  preview(part: object): void {
    this.tell("canvas.preview", part);
  }

  pointer({ x, y }: { x: number; y: number }): void {
    if (this.store.link.state === "open") this.client?.point(x, y);
  }

  /** Tells what we are doing when that changes, as long as there are messages to spare; it ends by itself. */
  busyWith(type: DoingNow["type"]): void {
    clearTimeout(this.doingTimer);
    this.doingTimer = window.setTimeout(() => this.does(null), DOING_LASTS);
    this.does(type);
  }

  /** Done with it: what was typed has been said. */
  idle(): void {
    clearTimeout(this.doingTimer);
    this.does(null);
  }

  private does(type: DoingNow["type"] | null): void {
    if (type === this.doing || this.store.link.state !== "open") return;
    if (type && this.pace.left(Date.now()) < 0.4) return;
    this.doing = type;
    this.update({ activity: type ? { type } : null });
  }

  private update(change: object): void {
    this.pace.spend(Date.now());
    this.tell("presence.update", change);
  }

  // -- listening

  private listen(client: RealtimeClient): void {
    const { store, board } = this;
    const begins = (part: keyof Table["fresh"]): boolean => {
      const first = this.fresh[part];
      this.fresh[part] = false;
      return first;
    };
    const on = <E extends EventName>(event: E, handler: (data: HandlerArguments<E>[0]) => void): void => {
      client.on(event, ((data: HandlerArguments<E>[0]) => {
        if (this.client === client) handler(data);
      }) as never);
    };
    client.on("transport", () => this.linked());
    client.on("latency", () => this.linked());
    client.on("state", (state) => this.linked(state));
    client.on("disconnected", ({ reason, reconnecting }) => {
      if (!reconnecting && this.client === client) this.leave(reason || "bye");
    });
    client.on("error", (error) => {
      if (this.client === client && client.state === "connected") this.doors.say(inWords(error));
    });
    on("session.welcome", (me) => this.welcomed(me));
    on("canvas.snapshot", ({ operations }) => board.snapshot(operations, begins("canvas")));
    on("canvas.draw", ({ operations }) => board.draw(operations));
    on("canvas.clear", ({ cleared }) => board.hide(cleared));
    on("canvas.undo", ({ operations, restored }) => this.changed(operations, restored));
    on("canvas.redo", ({ operations, hidden }) => this.changed(hidden, operations));
    on("canvas.preview", ({ previews }) => {
      for (const part of previews) board.preview(part);
    });
    on("presence.snapshot", ({ presence }) => {
      store.presence(presence, begins("presence"));
      for (const { userId, cursor } of presence) if (cursor) this.pointed(userId, cursor);
      // a page that was reloaded said `away` as it went
      if (store.people.get(store.myId)?.status === "away" && !document.hidden) this.update({ status: "online" });
    });
    on("presence.update", (person) => {
      store.seen(person);
      if (person.status === "offline") board.unpoint(person.userId);
    });
    on("presence.cursor", ({ cursors }) => {
      for (const { userId, x, y } of cursors) this.pointed(userId, { x, y });
    });
    on("activity.snapshot", ({ activities, more }) => {
      store.activities(activities, begins("activity"));
      if (!more) void this.recall();
    });
    on("activity.post", (activity) => store.posted(activity));
  }

  private welcomed(me: Welcome): void {
    if (!me.recovered) this.fresh = { canvas: true, presence: true, activity: true };
    if (!this.strokes || this.store.me?.userId !== me.userId) {
      this.pace = new Pace(me.limits.messagesPerMinute);
      this.strokes = new Strokes(
        this.pace,
        (operations) => this.request("canvas.draw", { operations }),
        (operations, error) => {
          for (const { id } of operations) this.board.refuse(id);
          if (this.client) this.doors.say(inWords(error));
        },
      );
    }
    this.board.enabled = me.role !== "spectator";
    this.store.welcome(me);
    this.linked();
  }

  private linked(now: ClientState = this.client?.state ?? "closed"): void {
    const { client } = this;
    if (!client || now === "closed" || now === "idle") return;
    const state = ({ connecting: "connecting", connected: "open", reconnecting: "waiting", offline: "offline" } as const)[now];
    const open = state === "open";
    this.store.linked({ state, transport: client.transport ?? "", latency: open ? (client.latency ?? null) : null });
  }

  private count(): void {
    if (this.store.link.waiting !== this.unsent) this.store.linked({ waiting: this.unsent });
  }

  /** Whose turn it is and what the map is called may have been told before the feed that we got. */
  private async recall(): Promise<void> {
    for (const type of ["turn_changed", "map_updated"] as const) {
      if (type === "turn_changed" ? this.store.turn : this.store.map) continue;
      const answer = await this.ask("activity.list", { types: [type], limit: 5 });
      if (answer) this.store.recalled(answer.activities);
    }
  }

  private pointed(userId: string, at: { x: number; y: number }): void {
    if (userId !== this.store.myId) this.board.point(userId, this.store.nameOf(userId), colorOf(userId), at);
  }

  /** A stroke that was hidden before we came is not with us: then look at the whole canvas again. */
  private async changed(gone: string[], back: string[]): Promise<void> {
    this.board.hide(gone);
    if (this.board.show(back)) return;
    const state = await this.ask("canvas.state", {});
    if (state) this.board.merge(state.operations);
  }
}
