// Page layer: who is here and what they are doing.

import type { PresenceData } from "@roundtable/client";
import type { Board } from "../board/board.js";
import { $, fill, h, iconButton } from "../dom.js";
import { classOf, initialsOf } from "../names.js";
import { doingText, type Store } from "../store.js";
import type { Table } from "../table.js";
import type { Talk } from "./talk.js";
import { toast } from "./toasts.js";

export function people(store: Store, table: Table, board: Board, talk: Talk): void {
  const find = ({ userId, username }: PresenceData): void => {
    const at = board.live.pointerOf(userId);
    if (at) board.centre(at);
    else toast(`${username} does not point at anything now.`);
  };
  const row = (person: PresenceData): HTMLLIElement => {
    const { userId, username, status, activity } = person;
    const mine = userId === store.myId;
    const doing = doingText(activity, status === "away");
    const notes = [mine ? `you, ${roleName(store.role)}` : "", doing].filter(Boolean).join(" · ");
    const acts = h("span", { class: "acts" });
    if (!mine) {
      if (store.role !== "spectator") acts.append(iconButton("whisper", `Whisper to ${username}`, () => talk.whisper(userId), "plain small"));
      acts.append(iconButton("find", `Where ${username} points`, () => find(person), "plain small"));
      if (store.role === "gm") {
        acts.append(iconButton("undo", `Undo what ${username} did last`, () => void table.undo(userId), "plain small"));
      }
    }
    return h(
      "li",
      {},
      h("span", { class: `face ${classOf(userId)} ${status}`, "aria-hidden": "true" }, initialsOf(username)),
      h("span", { class: "who" }, h("span", { class: "name" }, username), h("span", { class: "note" }, notes)),
      acts,
    );
  };
  const show = (): void => {
    const here = store.here;
    const focused = document.activeElement?.closest("#people") ? document.activeElement.getAttribute("aria-label") : null;
    $("count").textContent = String(here.length);
    fill($("people"), ...here.map(row));
    if (focused) document.querySelector<HTMLElement>(`#people [aria-label="${CSS.escape(focused)}"]`)?.focus();
    const typing = here.filter(({ userId, activity }) => userId !== store.myId && activity?.type === "typing");
    const names = typing.map(({ username }) => username).join(", ");
    $("typing").textContent = names && `${names} ${typing.length > 1 ? "are" : "is"} typing …`;
    talk.offer(here);
  };
  store.on("people", show).on("me", show);
}

function roleName(role: string): string {
  return { gm: "game master", player: "player", spectator: "looking on" }[role] ?? role;
}
