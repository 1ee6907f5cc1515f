// Page layer: short words that go away by themselves.

import { $, h } from "../dom.js";

const LIFE = 6_000;

export function toast(text: string): void {
  if (!text) return;
  const shown = h("p", {}, text);
  for (const other of $("toasts").children) if (other.textContent === text) other.remove();
  $("toasts").append(shown);
  setTimeout(() => shown.remove(), LIFE);
}
