// Page layer: the tray: dice that are put in by a touch, or typed. The server rolls.

import type { Visibility } from "@roundtable/client";
import { $, h, icon } from "../dom.js";
import type { Store } from "../store.js";
import type { Table } from "../table.js";

const DICE = [4, 6, 8, 10, 12, 20, 100];

export class Dice {
  private readonly typed = $<HTMLInputElement>("expression");
  private readonly form = $<HTMLFormElement>("dice");

  constructor(private readonly store: Store, private readonly table: Table) {
    for (const sides of DICE) {
      const name = sides === 100 ? "d%" : `d${sides}`;
      $("dies").append(
        h("button", { type: "button", class: "die", "aria-label": `Add a ${name}`, title: `Add a ${name}; twice quickly: roll it`, ondblclick: () => this.quick(sides), onclick: () => this.add(sides) }, icon(`d${sides}`), h("span", {}, name)),
      );
    }
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.rollTray();
    });
    $("empty").addEventListener("click", () => this.empty());
    $("more").addEventListener("click", () => this.shift(1));
    $("less").addEventListener("click", () => this.shift(-1));
    $("advantage").addEventListener("click", () => this.twice("kh1", "advantage"));
    $("disadvantage").addEventListener("click", () => this.twice("kl1", "disadvantage"));
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
    if (await this.roll(this.typed.value)) this.typed.select();
  }

  /** Two clicks are a wish for that die alone, now. */
  private quick(sides: number): void {
    this.empty();
    void this.roll(`1d${sides}`);
  }

  private get parts(): [string, string] {
    const at = this.typed.value.indexOf("#");
    return at < 0 ? [this.typed.value.trim(), ""] : [this.typed.value.slice(0, at).trim(), ` ${this.typed.value.slice(at)}`];
  }

  private put(expression: string, label: string): void {
    this.typed.value = expression + label;
    this.mark();
  }

  /** One more of these: `2d6 + 3` becomes `3d6 + 3`, or `2d6 + 1d8 + 3`. */
  private add(sides: number): void {
    const [expression, label] = this.parts;
    const die = new RegExp(`(^|[+\\s])(\\d*)d${sides}(?![\\d%a-z])`);
    const flat = /\s*[+-]\s*\d+$/.exec(expression);
    if (!expression) this.put(`1d${sides}`, label);
    else if (die.test(expression)) {
      this.put(expression.replace(die, (_, before: string, count: string) => `${before}${Number(count || 1) + 1}d${sides}`), label);
    } else if (flat) this.put(`${expression.slice(0, flat.index)} + 1d${sides}${flat[0]}`, label);
    else this.put(`${expression} + 1d${sides}`, label);
  }

  private shift(by: number): void {
    const [expression, label] = this.parts;
    const flat = /\s*([+-])\s*(\d+)$/.exec(expression);
    const before = flat ? expression.slice(0, flat.index) : expression || "1d20";
    const value = (flat ? Number(`${flat[1]}${flat[2]}`) : 0) + by;
    this.put(value ? `${before} ${value < 0 ? "-" : "+"} ${Math.abs(value)}` : before, label);
  }

  /** Advantage: two d20 instead of one; a second press takes it back. */
  private twice(keep: string, button: string): void {
    const [expression, label] = this.parts;
    const pressed = $(button).getAttribute("aria-pressed") === "true";
    const wanted = pressed ? "1d20" : `2d20${keep}`;
    const d20 = /\d*d20(?:k[hl]\d*)?(?!\d)/;
    this.put(d20.test(expression) ? expression.replace(d20, wanted) : expression ? `${wanted} + ${expression}` : wanted, label);
  }

  private empty(): void {
    this.put("", "");
    this.typed.focus();
  }

  private mark(): void {
    const value = this.typed.value;
    $("advantage").setAttribute("aria-pressed", String(/2d20kh1?(?!\d)/.test(value)));
    $("disadvantage").setAttribute("aria-pressed", String(/2d20kl1?(?!\d)/.test(value)));
  }

  private seat(): void {
    const looksOn = this.store.role === "spectator";
    for (const control of this.form.querySelectorAll<HTMLInputElement>("input, button, select")) control.disabled = looksOn;
  }
}
