// Page layer: what happens: talk, rolls, turns, notes, coming and going; and the latest roll, large, over the map.

import type { Activity, DiceResult, Die } from "@roundtable/client";
import { $, fill, h, icon, iconButton } from "../dom.js";
import { classOf, clock, initialsOf } from "../names.js";
import type { Store } from "../store.js";
import type { Table } from "../table.js";
import { sentence } from "../words.js";
import { write } from "./modal.js";

const SHOWN_AT_MOST = 600;
const DICE_SHOWN = 24;
const TOGETHER_MS = 180_000; // messages of one speaker stand under one name
const SPOTLIGHT_MS = 4_500;
const SECRETS: Record<string, string> = { gm: "for the gm", blind: "blind, for the gm alone", self: "in secret" };
const DICE_FACES = new Set([4, 6, 8, 10, 12, 20, 100]);

export class Feed {
  private readonly list = $<HTMLOListElement>("feed");
  private readonly scroll = $("scroll");
  private last: Activity | null = null;
  private turn = "";
  /** At its end, and staying there. */
  private pinned = true;
  private spotlight = 0;

  constructor(private readonly store: Store, private readonly table: Table, private readonly heard: (activity: Activity) => void) {
    store.on("feed", () => this.again()).on("posted", (activity) => this.posted(activity)).on("earlier", () => this.older());
    $("earlier").addEventListener("click", () => void this.earlier());
    $("newest").addEventListener("click", () => this.toEnd());
    this.scroll.addEventListener("scroll", () => {
      this.pinned = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < 60;
      if (this.pinned) $("newest").hidden = true;
    });
    new ResizeObserver(() => this.pinned && this.toEnd()).observe(this.scroll);
  }

  toEnd(): void {
    this.scroll.scrollTop = this.scroll.scrollHeight;
    this.pinned = true;
    $("newest").hidden = true;
  }

  private again(): void {
    this.render();
    $("earlier").hidden = this.store.feed.length < 50;
    this.toEnd();
  }

  private older(): void {
    const below = this.scroll.scrollHeight - this.scroll.scrollTop;
    this.render();
    this.scroll.scrollTop = this.scroll.scrollHeight - below;
  }

  private render(): void {
    this.last = null;
    this.turn = "";
    fill(this.list, ...this.store.feed.filter((activity) => this.tells(activity)).map((activity) => this.row(activity)));
  }

  private async earlier(): Promise<void> {
    if (!(await this.table.earlier())) $("earlier").hidden = true;
  }

  private posted(activity: Activity): void {
    if (!this.tells(activity)) return;
    const follow = this.pinned || activity.userId === this.store.myId;
    this.list.append(this.row(activity));
    while (this.list.childElementCount > SHOWN_AT_MOST) this.list.firstElementChild!.remove();
    if (follow) this.toEnd();
    else $("newest").hidden = false;
    if (activity.type === "dice_roll") this.show(activity);
    this.heard(activity);
  }

  /** A new order alone is not worth a line: it is shown above. */
  private tells({ type, data }: Activity): boolean {
    if (type !== "turn_changed") return true;
    const before = this.turn;
    this.turn = `${data.round} ${data.current}`;
    return this.turn !== before;
  }

  private row(activity: Activity): HTMLLIElement {
    const { type, userId, timestamp } = activity;
    const before = this.last;
    this.last = activity;
    const row = h("li", { class: type });
    if (type === "chat_message" || type === "dice_roll") {
      const same = before?.type === "chat_message" && type === "chat_message" && before.userId === userId;
      const together = same && timestamp - before.timestamp < TOGETHER_MS && String(before.to) === String(activity.to);
      if (!together) row.append(this.head(activity));
      row.append(type === "chat_message" ? h("p", { class: "text" }, activity.data.text) : rollCard(activity.data));
      if (activity.to) row.classList.add("whisper");
      if (activity.visibility && activity.visibility !== "public") row.classList.add("hidden-roll");
    } else if (type === "note_edited") {
      row.append(this.head(activity), this.note(activity));
    } else {
      row.append(h("span", { class: "said" }, sentence(activity)), time(timestamp));
    }
    return row;
  }

  private head({ userId, username, timestamp, type, to, visibility }: Activity): HTMLElement {
    const names = to?.filter((id) => id !== userId).map((id) => (id === this.store.myId ? "you" : this.store.nameOf(id)));
    const how = names ? ` whispers to ${names.join(", ")}` : type === "dice_roll" ? ` rolls ${SECRETS[visibility ?? ""] ?? ""}` : "";
    return h(
      "p",
      { class: "by" },
      h("span", { class: `face ${classOf(userId)}`, "aria-hidden": "true" }, initialsOf(username)),
      h("b", { class: classOf(userId) }, username),
      how.trim() ? h("span", { class: "how" }, how.trimEnd()) : null,
      names || (visibility && visibility !== "public") ? icon("whisper") : null,
      time(timestamp),
    );
  }

  private note({ data }: Activity): HTMLElement {
    const title = data.title || data.noteId;
    const edit = (): void => {
      const { noteId } = data;
      const now = this.store.notes.get(noteId) ?? { title, summary: data.summary ?? "" };
      write("Edit the note", { title: now.title, text: now.summary, label: "Title" }, (newTitle, summary) =>
        void this.table.share("note_edited", { noteId, title: newTitle, ...(summary ? { summary } : {}) }));
    };
    const mayEdit = this.store.role !== "spectator";
    return h(
      "div",
      { class: "note-card" },
      h("b", {}, title),
      mayEdit ? iconButton("pen", `Edit the note ${title}`, edit, "plain small") : null,
      data.summary ? h("p", { class: "text" }, data.summary) : null,
    );
  }

  /** For those whose eyes are on the map. */
  private show({ userId, username, data }: Activity): void {
    const host = $("spotlight");
    const { total, label } = data as DiceResult;
    fill(
      host,
      h(
        "div",
        { class: `roll ${luck(data.dice)}` },
        h("b", { class: classOf(userId) }, username),
        h("span", { class: "what" }, label ?? data.expression),
        h("strong", {}, total === undefined ? "?" : String(total)),
      ),
    );
    clearTimeout(this.spotlight);
    this.spotlight = window.setTimeout(() => fill(host), SPOTLIGHT_MS);
  }
}

function time(timestamp: number): HTMLElement {
  return h("time", { datetime: new Date(timestamp).toISOString() }, clock(timestamp));
}

/** The one d20 that counts shows its best or worst face. */
function luck(dice: Die[] | undefined): string {
  const d20 = dice?.filter(({ sides, kept }) => sides === 20 && kept) ?? [];
  if (d20.length !== 1) return "";
  return d20[0]!.value === 20 ? "best" : d20[0]!.value === 1 ? "worst" : "";
}

function rollCard(data: Partial<DiceResult>): HTMLElement {
  const { expression = "", label, total, dice = [] } = data;
  const faces = dice.slice(0, DICE_SHOWN).map(({ sides, value, kept }) =>
    h(
      "li",
      { class: kept ? "die" : "die dropped", title: `d${sides}${kept ? "" : ", does not count"}` },
      icon(DICE_FACES.has(sides) ? `d${sides}` : "d6"),
      h("span", {}, String(value)),
      kept ? null : h("span", { class: "quiet" }, " does not count"),
    ));
  if (dice.length > DICE_SHOWN) faces.push(h("li", { class: "note" }, `and ${dice.length - DICE_SHOWN} more`));
  return h(
    "div",
    { class: `roll ${luck(dice)}` },
    h("div", { class: "what" }, label ? h("b", {}, label) : null, h("code", {}, expression), h("ul", { class: "dice" }, ...faces)),
    total === undefined
      ? h("span", { class: "unseen" }, "only the gm sees the result")
      : h("strong", {}, String(total)),
  );
}
