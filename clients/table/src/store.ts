// State layer: what this page knows of its table besides the ink, folded from snapshots and events. Knows no wire, no page.

import type { Activity, DoingNow, PresenceData, TurnData, Welcome } from "@roundtable/client";

const FEED_AT_MOST = 500;

export interface Note {
  noteId: string;
  title: string;
  summary: string;
}

export interface Link {
  state: "connecting" | "open" | "waiting" | "offline";
  transport: string;
  latency: number | null;
  /** How many requests wait for the way back. */
  waiting: number;
}

/** What a panel may listen to. `posted` is told each new activity; `feed`: the feed is another one. */
interface Topics {
  me: Welcome;
  link: Link;
  people: void;
  feed: void;
  posted: Activity;
  earlier: Activity[];
  turn: TurnData | null;
  map: string;
}

type Handler<T> = (value: T) => void;

export class Store {
  me: Welcome | null = null;
  link: Link = { state: "connecting", transport: "", latency: null, waiting: 0 };
  readonly people = new Map<string, PresenceData>();
  feed: Activity[] = [];
  turn: TurnData | null = null;
  map = "";
  readonly notes = new Map<string, Note>();
  private names = new Map<string, string>();
  private told = new Set<string>();
  private stamps: Record<string, string> = {};
  private handlers = new Map<keyof Topics, Handler<never>[]>();

  on<K extends keyof Topics>(topic: K, handler: Handler<Topics[K]>): this {
    this.handlers.set(topic, [...(this.handlers.get(topic) ?? []), handler as Handler<never>]);
    return this;
  }

  private tell<K extends keyof Topics>(topic: K, value: Topics[K]): void {
    for (const handler of this.handlers.get(topic) ?? []) (handler as Handler<Topics[K]>)(value);
  }

  get role(): string {
    return this.me?.role ?? "spectator";
  }

  get myId(): string {
    return this.me?.userId ?? "";
  }

  nameOf(userId: string): string {
    return this.names.get(userId) ?? userId;
  }

  welcome(me: Welcome): void {
    this.me = me;
    this.names.set(me.userId, me.username);
    this.tell("me", me);
  }

  linked(change: Partial<Link>): void {
    this.link = { ...this.link, ...change };
    this.tell("link", this.link);
  }

  // -- people

  presence(presence: PresenceData[], first: boolean): void {
    if (first) this.people.clear();
    for (const person of presence) this.take(person);
    this.tell("people", undefined);
  }

  seen(person: PresenceData): void {
    this.take(person);
    this.tell("people", undefined);
  }

  private take(person: PresenceData): void {
    this.names.set(person.userId, person.username);
    if (person.status === "offline") this.people.delete(person.userId);
    else this.people.set(person.userId, person);
  }

  /** Those who are here, oneself first, then by name. */
  get here(): PresenceData[] {
    const mine = this.myId;
    return [...this.people.values()].sort(
      (a, b) => Number(b.userId === mine) - Number(a.userId === mine) || a.username.localeCompare(b.username),
    );
  }

  // -- the feed

  activities(page: Activity[], first: boolean): void {
    if (first) {
      this.feed = [];
      this.told.clear();
      this.stamps = {};
      this.notes.clear();
      this.turn = null;
      this.map = "";
    }
    for (const activity of page) this.keep(activity);
    this.tell("feed", undefined);
    this.tell("turn", this.turn);
    this.tell("map", this.map);
  }

  posted(activity: Activity): void {
    if (!this.keep(activity)) return;
    this.tell("posted", activity);
    if (activity.type === "turn_changed") this.tell("turn", this.turn);
    if (activity.type === "map_updated") this.tell("map", this.map);
  }

  /** Older ones than the first that is known. */
  older(page: Activity[]): void {
    const fresh = page.filter(({ id }) => !this.told.has(id));
    for (const activity of fresh) this.learn(activity);
    this.feed = [...fresh, ...this.feed];
    this.tell("earlier", fresh);
  }

  /** What was asked for by its type alone: it tells of the state, and is not part of the feed. */
  recalled(page: Activity[]): void {
    for (const activity of page) this.fold(activity);
    this.tell("turn", this.turn);
    this.tell("map", this.map);
  }

  private keep(activity: Activity): boolean {
    if (this.told.has(activity.id)) return false;
    this.learn(activity);
    this.feed.push(activity);
    if (this.feed.length > FEED_AT_MOST) this.feed.shift();
    return true;
  }

  private learn(activity: Activity): void {
    this.told.add(activity.id);
    if (!this.names.has(activity.userId)) this.names.set(activity.userId, activity.username);
    this.fold(activity);
  }

  /** The latest one counts, in whatever order they are learnt. */
  private fold({ id, type, data }: Activity): void {
    if (type === "map_updated" && typeof data.name !== "string") return;
    const about = type === "note_edited" ? `note ${data.noteId}` : type;
    if ((this.stamps[about] ?? "") >= id) return;
    this.stamps[about] = id;
    if (type === "turn_changed") this.turn = data as TurnData;
    if (type === "map_updated") this.map = data.name;
    if (type === "note_edited") {
      this.notes.set(data.noteId, { noteId: data.noteId, title: data.title ?? "", summary: data.summary ?? "" });
    }
  }
}

export function doingText(activity: DoingNow | undefined, away: boolean): string {
  if (away) return "away";
  if (!activity) return "";
  const where = activity.location ? ` in ${activity.location}` : "";
  return activity.type === "typing" ? "is typing …" : activity.type === "drawing" ? "is drawing" : `is looking${where}`;
}
