// Page layer: the line at the top: which room, who is here, how well we are connected, and the way out.

import { $, fill, h, icon } from "../dom.js";
import { classOf, initialsOf, latencyText } from "../names.js";
import { linkTo, remember, remembered } from "../seat.js";
import type { Link, Store } from "../store.js";
import type { Table } from "../table.js";
import { showHelp } from "./help.js";
import { toast } from "./toasts.js";

const FACES = 6;
const TRANSPORTS: Record<string, string> = { websocket: "WebSocket", sse: "SSE", poll: "Polling" };
const THEMES = ["auto", "light", "dark"] as const;
const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };
type Theme = (typeof THEMES)[number];

export function bar(store: Store, table: Table, themed: () => void): void {
  store.on("me", (me) => {
    $("room").textContent = me.room;
    document.title = `${me.room} – Roundtable`;
  });
  store.on("map", (name) => {
    $("map-name").textContent = name;
  });
  store.on("people", () => {
    const here = store.here;
    const faces = here.slice(0, FACES).map(({ userId, username, status }) =>
      h("li", { class: `face ${classOf(userId)} ${status}`, title: username }, initialsOf(username)));
    if (here.length > FACES) faces.push(h("li", { class: "face more" }, `+${here.length - FACES}`));
    fill($("faces"), ...faces);
  });
  store.on("link", showLink);
  $("invite").addEventListener("click", () => void invite(store));
  $("leave").addEventListener("click", () => table.leave());
  $("help").addEventListener("click", showHelp);
  $("wake").addEventListener("click", () => table.wake());
  theme(themed);
}

function showLink(link: Link): void {
  const { state, transport, latency, waiting } = link;
  $("link").dataset.state = state;
  $("link").dataset.transport = transport;
  const name = TRANSPORTS[transport] ?? transport;
  const words = {
    connecting: "Connecting …",
    waiting: "Reconnecting …",
    offline: "Offline",
    open: latency === null ? "" : latencyText(latency),
  };
  // a screen reader is told of changes, not of each measurement
  $("link").setAttribute("aria-live", state === "open" && latency !== null ? "off" : "polite");
  $("via").textContent = state === "open" ? name : "";
  $("link-text").textContent = words[state];
  $("link").title = state === "open" ? `Connected by ${name}` : words[state];
  $("offline").hidden = state !== "offline";
  if (state === "offline") {
    const kept = waiting ? ` ${waiting} ${waiting === 1 ? "thing waits" : "things wait"} here and will go out then.` : "";
    $("offline").firstElementChild!.textContent = `The table can’t be reached. We keep trying; what you do is kept.${kept}`;
  }
}

async function invite(store: Store): Promise<void> {
  const link = linkTo(store.me?.room ?? "");
  try {
    await navigator.clipboard.writeText(link);
    toast("The link to this table is copied.");
  } catch {
    toast(link); // no clipboard without a secure context: then it can be read
  }
}

function theme(themed: () => void): void {
  const button = $("theme");
  const show = (wanted: Theme): void => {
    if (wanted === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = wanted;
    fill(button, icon(THEME_ICONS[wanted]));
    button.setAttribute("aria-label", `Theme: ${wanted}`);
    button.title = `Theme: ${wanted}`;
    themed();
  };
  let now: Theme = THEMES.find((name) => name === remembered("roundtable.theme")) ?? "auto";
  show(now);
  button.addEventListener("click", () => {
    now = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]!;
    remember("roundtable.theme", now);
    show(now);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed);
}
