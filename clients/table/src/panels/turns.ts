// Page layer: whose turn it is. The order is the last `turn_changed`; whoever plays may change it.

import type { TurnData } from "@roundtable/client";
import { $, fill, h, iconButton } from "../dom.js";
import type { Store } from "../store.js";
import type { Table } from "../table.js";

/** Nobody's turn: an order without names. */
const OVER: TurnData = { current: "–", round: 0, order: [] };

export class Turns {
  constructor(private readonly store: Store, private readonly table: Table) {
    store.on("turn", () => this.show()).on("me", () => this.show());
    store.on("people", () => fill($("names"), ...store.here.map(({ username }) => h("option", { value: username }))));
    $("combatant").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = $<HTMLInputElement>("who");
      const name = field.value.trim();
      if (!name) return;
      field.value = "";
      this.post({ order: [...this.order, name] });
    });
  }

  private get order(): string[] {
    const { turn } = this.store;
    return turn?.order ?? (turn ? [turn.current] : []);
  }

  private get at(): number {
    return this.order.indexOf(this.store.turn?.current ?? "");
  }

  next(by = 1): void {
    const { order } = this;
    if (!order.length || this.store.role === "spectator") return;
    const to = this.at + by;
    const round = (this.store.turn?.round ?? 1) + (to >= order.length ? 1 : to < 0 ? -1 : 0);
    this.post({ current: order[(to + order.length) % order.length]!, round: Math.max(1, round) });
  }

  private add(): void {
    $("combatant").hidden = !$("combatant").hidden;
    if (!$("combatant").hidden) $("who").focus();
  }

  private begin(): void {
    const order = [...new Set(this.store.here.map(({ username }) => username))];
    this.post({ order, current: order[0]!, round: 1 });
  }

  private post(change: Partial<TurnData>): void {
    const { turn } = this.store;
    const order = (change.order ?? this.order).slice(0, 200);
    const before = turn?.order?.length ? turn.current : order[0]!;
    const current = change.current ?? (order.includes(before) ? before : (order[Math.min(this.at, order.length - 1)] ?? ""));
    const data = order.length ? { current, round: change.round ?? (turn?.round || 1), order } : OVER;
    void this.table.share("turn_changed", data);
  }

  private swap(index: number, by: number): void {
    const order = [...this.order];
    const other = index + by;
    if (other < 0 || other >= order.length) return;
    [order[index], order[other]] = [order[other]!, order[index]!];
    this.post({ order });
  }

  private show(): void {
    const plays = this.store.role !== "spectator";
    const { order, at } = this;
    $("round").textContent = order.length && this.store.turn?.round ? `round ${this.store.turn.round}` : "";
    $("turns").classList.toggle("idle", !order.length);
    if (!plays || !order.length) $("combatant").hidden = true;
    fill($("order"), ...order.map((name, index) => this.row(name, index, index === at, plays)));
    const acts: Node[] = [];
    if (plays && order.length) {
      acts.push(
        iconButton("up", "The turn before", () => this.next(-1), "plain small"),
        iconButton("plus", "Add to the order", () => this.add(), "plain small"),
        h("button", { type: "button", class: "chip strong", title: "Next turn (N)", onclick: () => this.next() }, "Next"),
        iconButton("close", "End the turns", () => this.post({ order: [] }), "plain small"),
      );
    } else if (plays) {
      acts.push(h("button", { type: "button", class: "chip", onclick: () => this.begin() }, "Take turns"));
    }
    const focused = document.activeElement?.closest("#turns")?.id ? document.activeElement?.textContent : null;
    fill($("turn-acts"), ...acts);
    if (focused === "Next" || focused === "Take turns") $("turn-acts").querySelector<HTMLElement>(".chip")?.focus();
    $("order").querySelector("[aria-current]")?.scrollIntoView?.({ block: "nearest" });
  }

  private row(name: string, index: number, current: boolean, plays: boolean): HTMLLIElement {
    const acts = h("span", { class: "acts" });
    if (plays) {
      acts.append(
        iconButton("up", `${name} earlier`, () => this.swap(index, -1), "plain small"),
        iconButton("down", `${name} later`, () => this.swap(index, 1), "plain small"),
        iconButton("close", `${name} out of the order`, () => this.post({ order: this.order.filter((_, at) => at !== index) }), "plain small"),
      );
    }
    return h("li", { "aria-current": current && "true" }, h("span", { class: "name" }, name), acts);
  }
}
