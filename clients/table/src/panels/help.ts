// Page layer: what can be done here, and by which keys.

import { h } from "../dom.js";
import { open } from "./modal.js";

const KEYS: [string, string][] = [
  ["P  E  R  C  H", "pen, eraser, rectangle, circle, hand"],
  ["1 … 9, 0", "colours 1 to 9; 0 shows everything"],
  ["[  ]", "thinner, thicker"],
  ["Ctrl + Z", "undo; with Shift, or Ctrl + Y: redo"],
  ["Space + drag", "move the map; so do the right button and two fingers"],
  ["+  −, wheel", "closer, farther"],
  ["B", "to the map: then arrows move a pen, Enter puts it down"],
  ["T  or  /", "to the chat"],
  ["D", "to the dice"],
  ["N", "next turn"],
  ["?", "this help"],
];
const WORDS: [string, string][] = [
  ["/r 2d6+3 # fire", "rolls, and says what for"],
  ["/w name text", "whispers to one alone"],
  ["4d6kh3, 2d20kl1", "keeps the highest three, the lowest one"],
  ["1d20!, 2d6ro<3", "explodes; rolls again once below three"],
];

export function showHelp(): void {
  const list = (rows: [string, string][]) => {
    const made = h("dl", { class: "keys" });
    for (const [keys, what] of rows) made.append(h("dt", {}, h("kbd", {}, keys)), h("dd", {}, what));
    return made;
  };
  const shut = open("How this table works", [
    h("h3", {}, "Keys"),
    list(KEYS),
    h("h3", {}, "In the chat and the dice tray"),
    list(WORDS),
    h("p", { class: "answers" }, h("button", { type: "button", class: "main", onclick: () => shut() }, "Back to the table")),
  ]);
}
