// Page layer: single keys as shortcuts, wherever nobody is writing.

import type { Brush } from "./board/board.js";
import { $ } from "./dom.js";
import type { Dice } from "./panels/dice.js";
import { showHelp } from "./panels/help.js";
import { isOpen } from "./panels/modal.js";
import type { Talk } from "./panels/talk.js";
import type { Tools } from "./panels/tools.js";
import type { Turns } from "./panels/turns.js";
import type { Table } from "./table.js";

const TOOLS: Record<string, Brush["tool"]> = { p: "pen", e: "eraser", r: "rectangle", c: "circle", h: "hand" };

export interface Parts {
  table: Table;
  tools: Tools;
  talk: Talk;
  dice: Dice;
  turns: Turns;
  tab(name: string): void;
}

export function shortcuts({ table, tools, talk, dice, turns, tab }: Parts): void {
  const single: Record<string, () => void> = {
    "[": () => tools.thicker(-2),
    "]": () => tools.thicker(2),
    "+": () => tools.zoom(true),
    "=": () => tools.zoom(true),
    "-": () => tools.zoom(false),
    "0": () => $("fit").click(),
    "?": showHelp,
    b: () => (tab("map"), $("board").focus()),
    t: () => (tab("talk"), talk.focus()),
    "/": () => (tab("talk"), talk.focus()),
    d: () => (tab("dice"), dice.focus()),
    n: () => turns.next(),
  };
  document.addEventListener("keydown", (event) => {
    if (!table.seated || isOpen() || event.altKey || event.defaultPrevented) return;
    const target = event.target as HTMLElement;
    if (event.key === "Escape" && writes(target)) target.blur();
    if (writes(target)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") void (event.shiftKey ? table.redo() : table.undo());
      else if (key === "y") void table.redo();
      else return;
    } else if (TOOLS[key]) tools.choose(TOOLS[key]);
    else if (/^[1-9]$/.test(key)) tools.color(Number(key) - 1);
    else if (single[key]) single[key]();
    else return;
    event.preventDefault();
  });
}

function writes(target: HTMLElement): boolean {
  return target.matches("input:not([type=radio]):not([type=range]), select, textarea");
}
