// Page layer: on a small screen one part of the table at a time; on a large one they are all there.

import { $ } from "../dom.js";

export class Tabs {
  private unread = 0;

  constructor() {
    for (const button of this.buttons) button.addEventListener("click", () => this.show(button.dataset.tab!));
    document.addEventListener("show", (event) => this.show((event as CustomEvent<string>).detail));
    this.show("map");
  }

  private get buttons(): HTMLButtonElement[] {
    return [...$("tabs").querySelectorAll("button")];
  }

  show(name: string): void {
    $("table").dataset.tab = name;
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.tab === name));
    if (name === "talk") this.count(0);
  }

  /** Somebody else said or rolled something. */
  heard(): void {
    if ($("table").dataset.tab !== "talk") this.count(this.unread + 1);
  }

  private count(unread: number): void {
    this.unread = unread;
    $("unread").textContent = unread > 99 ? "99+" : String(unread);
    $("unread").hidden = unread === 0;
  }
}
