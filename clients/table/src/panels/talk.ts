// Page layer: saying something: to all, to one alone, or as a command (`/r`, `/w`); and writing notes.

import type { PresenceData } from "@roundtable/client";
import { $, fill, h } from "../dom.js";
import { newId } from "../ids.js";
import type { Store } from "../store.js";
import type { Table } from "../table.js";
import { write } from "./modal.js";
import { toast } from "./toasts.js";

const ALL = "";

export class Talk {
  private readonly text = $<HTMLTextAreaElement>("text");
  private readonly to = $<HTMLSelectElement>("to");

  constructor(private readonly store: Store, private readonly table: Table, private readonly roll: (typed: string) => Promise<boolean>) {
    $("chat").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.say();
    });
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      void this.say();
    });
    this.text.addEventListener("input", () => {
      this.grow();
      if (this.text.value && !this.text.value.startsWith("/")) table.busyWith("typing");
    });
    this.to.addEventListener("change", () => this.mark());
    $("new-note").addEventListener("click", () => this.note());
    $("name-map").addEventListener("click", () => this.nameMap());
    store.on("me", () => this.seat());
    this.offer([]);
  }

  focus(): void {
    this.text.focus();
  }

  whisper(userId: string): void {
    this.to.value = userId;
    this.mark();
    document.dispatchEvent(new CustomEvent("show", { detail: "talk" }));
    this.text.focus();
  }

  /** Who can be whispered to; the one who is chosen stays so, here or not. */
  offer(here: PresenceData[]): void {
    const chosen = this.to.value;
    const others = here.filter(({ userId }) => userId !== this.store.myId);
    const options = others.map(({ userId, username }) => h("option", { value: userId }, `to ${username} alone`));
    if (chosen && !others.some(({ userId }) => userId === chosen)) {
      options.push(h("option", { value: chosen }, `to ${this.store.nameOf(chosen)}, who is away`));
    }
    fill(this.to, h("option", { value: ALL }, "to all"), ...options);
    this.to.value = chosen;
    this.mark();
  }

  private mark(): void {
    $("chat").classList.toggle("whispers", this.to.value !== ALL);
  }

  private seat(): void {
    const looksOn = this.store.role === "spectator";
    for (const control of $("chat").querySelectorAll<HTMLInputElement>("textarea, select, button")) control.disabled = looksOn;
    this.text.placeholder = looksOn ? "You are looking on" : "Say something";
    $("new-note").hidden = looksOn;
    $("name-map").hidden = this.store.role !== "gm";
  }

  private grow(): void {
    this.text.rows = Math.min(5, this.text.value.split("\n").length);
  }

  private async say(): Promise<void> {
    const typed = this.text.value;
    if (!typed.trim()) return;
    this.text.value = "";
    this.grow();
    this.table.idle();
    const said = await this.carryOut(typed);
    if (!said && !this.text.value) {
      this.text.value = typed; // what was refused can be mended
      this.grow();
    }
  }

  private async carryOut(typed: string): Promise<boolean> {
    const [, command, rest = ""] = /^\/(\w+)\s*([\s\S]*)$/.exec(typed) ?? [];
    if (command === "r" || command === "roll") return this.roll(rest);
    if (command === "w" || command === "whisper") return this.whisperTo(rest);
    if (command) {
      toast(`There is no /${command}. There are /r and /w.`);
      return false;
    }
    return this.post(typed, this.to.value ? [this.to.value] : undefined);
  }

  /** `NAME text`: names may have spaces, so the longest one that fits is meant. */
  private async whisperTo(rest: string): Promise<boolean> {
    const fits = (name: string) => rest.toLowerCase().startsWith(`${name.toLowerCase()} `);
    const meant = this.store.here
      .filter(({ userId, username }) => userId !== this.store.myId && fits(username))
      .sort((a, b) => b.username.length - a.username.length)[0];
    if (!meant) {
      toast("Nobody here has that name. Type /w NAME text.");
      return false;
    }
    return this.post(rest.slice(meant.username.length + 1), [meant.userId]);
  }

  private async post(text: string, to?: string[]): Promise<boolean> {
    return Boolean(await this.table.share("chat_message", { text }, to ? { to } : {}));
  }

  private note(): void {
    write("A note for all", { title: "", text: "", label: "Title" }, (title, summary) =>
      void this.table.share("note_edited", { noteId: newId("n-"), title, ...(summary ? { summary } : {}) }));
  }

  private nameMap(): void {
    write("What is this map called?", { title: this.store.map, label: "Name" }, (name) =>
      void this.table.share("map_updated", { mapId: this.store.me?.room ?? "map", name }));
  }
}
