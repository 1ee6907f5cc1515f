// Page layer: the tray: dice that are put in by a touch, or typed. The server rolls.

import type { Visibility } from "@roundtable/client";
import { $, h, icon } from "../dom.js";
import { luckOf, shifted, turned, withDie } from "../expression.js";
import type { Store } from "../store.js";
import type { Table } from "../table.js";

const DICE = [4, 6, 8, 10, 12, 20, 100];

export class Dice {
  private readonly typed = $<HTMLInputElement>("expression");
  private readonly form = $<HTMLFormElement>("dice");

  constructor(private readonly store: Store, private readonly table: Table) {
    for (const sides of DICE) {
      const name = sides === 100 ? "d%" : `d${sides}`;
      const put = (): void => this.put(withDie(this.typed.value, sides));
      const attributes = { type: "button", class: "die", "aria-label": `Add a ${name}`, title: `Add a ${name}`, onclick: put };
      $("dies").append(h("button", attributes, icon(`d${sides}`), h("span", {}, name)));
    }
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.rollTray();
    });
    $("empty").addEventListener("click", () => this.empty());
    $("more").addEventListener("click", () => this.put(shifted(this.typed.value, 1)));
    $("less").addEventListener("click", () => this.put(shifted(this.typed.value, -1)));
    $("advantage").addEventListener("click", () => this.put(turned(this.typed.value, "advantage")));
    $("disadvantage").addEventListener("click", () => this.put(turned(this.typed.value, "disadvantage")));
    this.typed.addEventListener("input", () => this.mark());
    store.on("me", () => this.seat());
  }

  focus(): void {
    this.typed.focus();
  }

  /** `EXPRESSION # LABEL`. False: it was refused. */
  async roll(typed: string): Promise<boolean> {
    const [expression = ""] = typed.split("#", 1);
    const label = typed.slice(expression.length + 1).trim();
    const data = { expression: expression.trim() || "1d20", ...(label ? { label } : {}) };
    const visibility = $<HTMLSelectElement>("visibility").value as Visibility;
    return Boolean(await this.table.share("dice_roll", data, { visibility }));
  }

  private async rollTray(): Promise<void> {
    const done = await this.roll(this.typed.value);
    if (done && document.activeElement === this.typed) this.typed.select(); // it would bring the focus back
  }

  private put(typed: string): void {
    this.typed.value = typed;
    this.mark();
  }

  private empty(): void {
    this.put("");
    this.typed.focus();
  }

  private mark(): void {
    const luck = luckOf(this.typed.value);
    $("advantage").setAttribute("aria-pressed", String(luck === "advantage"));
    $("disadvantage").setAttribute("aria-pressed", String(luck === "disadvantage"));
  }

  private seat(): void {
    const looksOn = this.store.role === "spectator";
    for (const control of this.form.querySelectorAll<HTMLInputElement>("input, button, select")) control.disabled = looksOn;
  }
}
