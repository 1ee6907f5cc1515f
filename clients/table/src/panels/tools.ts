// Page layer: tools, colours, sizes and the view.

import type { Board, Brush } from "../board/board.js";
import { $, h, icon } from "../dom.js";
import type { Store } from "../store.js";
import type { Table } from "../table.js";
import { confirm, open } from "./modal.js";
import { toast } from "./toasts.js";

const KINDS: [Brush["tool"], string, string][] = [
  ["pen", "Pen", "P"], ["eraser", "Eraser", "E"], ["rectangle", "Rectangle", "R"], ["circle", "Circle", "C"], ["hand", "Hand", "H"],
];
export const COLORS: [string, string][] = [
  ["Ink", "#1d2a44"], ["Red", "#c0392b"], ["Orange", "#d9731a"], ["Gold", "#dba911"], ["Green", "#2e8b57"],
  ["Blue", "#2a6fdb"], ["Violet", "#7d3cb5"], ["Brown", "#7a4a21"], ["Grey", "#8a8f98"],
];
const CLOSER = 1.25;

export class Tools {
  private readonly size = $<HTMLInputElement>("size");

  constructor(private readonly board: Board, private readonly store: Store, private readonly table: Table) {
    for (const [tool, name, key] of KINDS) {
      const input = h("input", { type: "radio", name: "tool", value: tool, checked: tool === "pen", "aria-label": name });
      $("kinds").append(h("label", { title: `${name} (${key})` }, input, h("span", {}, icon(tool))));
    }
    COLORS.forEach(([name, value], index) => {
      const input = h("input", { type: "radio", name: "color", value, checked: index === 0, "aria-label": name });
      const swatch = h("span");
      swatch.style.setProperty("--swatch", value);
      $("colors").append(h("label", { title: `${name} (${index + 1})` }, input, swatch));
    });
    $("tools").addEventListener("input", () => this.pick());
    $("undo").addEventListener("click", () => void table.undo());
    $("redo").addEventListener("click", () => void table.redo());
    $("clear").addEventListener("click", () => this.clear());
    $("zoom-in").addEventListener("click", () => board.zoom(CLOSER));
    $("zoom-out").addEventListener("click", () => board.zoom(1 / CLOSER));
    $("fit").addEventListener("click", () => board.fit());
    $("picture").addEventListener("click", () => void this.save());
    store.on("me", () => this.seat());
    this.pick();
  }

  /** The view has moved. */
  viewed(): void {
    $("zoom").textContent = `${Math.round(this.board.camera.scale * 100)} %`;
  }

  choose(tool: Brush["tool"]): void {
    this.check("tool", tool);
  }

  color(index: number): void {
    const color = COLORS[index];
    if (color) this.check("color", color[1]);
  }

  thicker(by: number): void {
    this.size.value = String(Number(this.size.value) + by);
    this.pick();
  }

  zoom(closer: boolean): void {
    this.board.zoom(closer ? CLOSER : 1 / CLOSER);
  }

  private check(name: string, value: string): void {
    const input = document.querySelector<HTMLInputElement>(`#tools input[name="${name}"][value="${value}"]`);
    if (!input || input.disabled) return;
    input.checked = true;
    this.pick();
  }

  private pick(): void {
    const chosen = (name: string) => document.querySelector<HTMLInputElement>(`#tools input[name="${name}"]:checked`)!.value;
    const brush: Brush = { tool: chosen("tool") as Brush["tool"], color: chosen("color"), size: Number(this.size.value) };
    this.board.brush = brush;
    $("board").dataset.tool = brush.tool;
    $("nib").style.setProperty("--nib", `${Math.max(2, Math.min(22, brush.size))}px`);
    $("nib").style.setProperty("--swatch", brush.color);
  }

  /** Who looks on has a hand alone. */
  private seat(): void {
    const looksOn = this.store.role === "spectator";
    document.body.dataset.role = this.store.role;
    for (const control of document.querySelectorAll<HTMLInputElement | HTMLButtonElement>("#tools input, #tools button")) {
      control.disabled = looksOn && control.getAttribute("value") !== "hand";
    }
    if (looksOn) this.choose("hand");
  }

  private clear(): void {
    if (this.store.role !== "gm") {
      void this.sure("mine", "Clear what you drew?", "It goes from everybody’s map; an undo brings it back.", "Clear mine");
      return;
    }
    const shut = open("Clear the map", [
      h("p", {}, "What is cleared goes from everybody’s map. An undo brings it back."),
      h(
        "p",
        { class: "answers" },
        h("button", { type: "button", onclick: () => shut() }, "Cancel"),
        h("button", { type: "button", onclick: () => (shut(), void this.table.clear("mine")) }, "Clear mine"),
        h(
          "button",
          {
            type: "button",
            class: "danger",
            onclick: () => (shut(), void this.sure("all", "Clear everything?", "Also what the others drew.", "Clear all")),
          },
          "Clear all …",
        ),
      ),
    ]);
  }

  private async sure(scope: "all" | "mine", title: string, text: string, yes: string): Promise<void> {
    if (await confirm(title, text, yes)) await this.table.clear(scope);
  }

  private async save(): Promise<void> {
    const picture = await this.board.picture();
    if (!picture) {
      toast("This browser could not make a picture.");
      return;
    }
    const address = URL.createObjectURL(picture);
    const link = h("a", { href: address, download: `${this.store.me?.room ?? "map"}.png`, hidden: true });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }
}
