// The table page: joins, and brings together wire and board with people, feed, chat and dice. All texts from others go
// into the page as text, never as markup.

import { Board, hueOf } from "./board.js";
import { Wire, newId } from "./wire.js";

const COLORS = {
  Ink: "#1d2a44", Red: "#c8322b", Orange: "#d9731a", Yellow: "#e3b505", Green: "#2e8b57", Blue: "#2a6fdb",
  Violet: "#7d3cb5", Grey: "#8a8f98",
};
const DICE = [4, 6, 8, 10, 12, 20, 100];
const FEED_AT_MOST = 300;
const TOAST_LIFE = 6000;
const TOOL_KEYS = { p: "pen", e: "eraser", r: "rectangle", c: "circle" };
const STATES = { connecting: "Connecting …", open: "Connected", closed: "Not connected" };
const REASONS = {
  auth_timeout: "This table takes nobody without a token.",
  auth_required: "This table takes nobody without a token.",
  token_invalid: "The token is not good here.",
  forbidden: "You have no seat in this room.",
  invalid_room: "A room's name has 1 to 64 letters, digits, _ and -.",
  origin_refused: "This page may not connect to the table.",
  revoked: "You have been logged out.",
};

const $ = (id) => document.getElementById(id);
const people = new Map(); // user id → PresenceData
const told = new Set(); // activities that are in the feed
let wire = null;
let me = null; // the welcome's data

const board = new Board($("board"), {
  newId: () => newId("o-"),
  preview: (part) => wire && wire.tell("canvas.preview", part),
  pointer: (point) => wire && wire.tell("presence.cursor", point),
  stroke: (operation) => {
    board.keep(me.userId, operation);
    ask("canvas.draw", { operations: [operation] }).then((answer) => answer || board.refuse(me.userId, operation.id));
  },
});

function element(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function toast(text) {
  if (!text) return;
  const shown = element("p", text);
  $("toasts").append(shown);
  setTimeout(() => shown.remove(), TOAST_LIFE);
}

/** For people; the place in the message is for programmers. */
function inWords({ reason, message, retryAfter }) {
  return reason === "rate_limited" ? `Too fast: wait ${Math.ceil(retryAfter)} s.` : message.replace(/ - at `[^`]*`$/, "");
}

/** The answer's data, or undefined after having said in words what went wrong. */
async function ask(method, params) {
  try {
    return await wire.request(method, params);
  } catch (error) {
    toast(inWords(error));
    return undefined;
  }
}

// -- coming and going

const join = $("join").elements;
const seat = {
  read: (name, store = localStorage) => store.getItem(`roundtable.${name}`) || "",
  keep: (name, value, store = localStorage) => store.setItem(`roundtable.${name}`, value),
};

function showLink() {
  $("link").href = `/?room=${encodeURIComponent(join.room.value)}`;
}

join.name.value = seat.read("name");
join.room.value = new URLSearchParams(location.search).get("room") || "lobby";
const lastRole = seat.read("role", sessionStorage);
if (lastRole) join.role.value = lastRole;
join.room.addEventListener("input", showLink);
showLink();

/** A token from the server in development; null (a guest, or nobody) where it gives none. */
function tokenSource({ name, room, role, token }) {
  let tokens = null;
  const userId = seat.read("user", sessionStorage) || newId("u-");
  seat.keep("user", userId, sessionStorage);
  return async (renew) => {
    if (token) {
      if (renew) throw Object.assign(new Error("The token's time is over."), { fatal: true });
      return token;
    }
    if (tokens && tokens.expiresAt - Date.now() > 5000 && !renew) return tokens.token;
    const wanted = { username: name, userId, room, role, ttl: 86400 };
    const answer = await post("/auth/token", wanted);
    if (answer.status === 404) return null;
    const body = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(body.error.message), { fatal: answer.status === 400 });
    tokens = body;
    return tokens.token;
  };
}

function post(path, body) {
  return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

function sitDown() {
  const given = { name: join.name.value.trim(), room: join.room.value, role: join.role.value, token: join.token.value.trim() };
  seat.keep("name", given.name);
  seat.keep("role", given.role, sessionStorage);
  seat.keep("seated", given.token ? "" : "yes", sessionStorage);
  history.replaceState(null, "", `/?room=${encodeURIComponent(given.room)}`);
  $("refusal").textContent = "";
  const getToken = tokenSource(given);
  wire = listen(new Wire(given.room, getToken));
  wire.on("session.token_expiring", async () => {
    const token = await getToken(true).catch(() => null);
    if (token) ask("auth.refresh", { token });
  });
  wire.connect();
}

function leave(reason = "") {
  seat.keep("seated", "", sessionStorage);
  $("table").hidden = true;
  $("door").hidden = false;
  $("refusal").textContent = reason && (REASONS[reason] || reason);
  document.title = "Roundtable";
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  sitDown();
});
$("leave").addEventListener("click", () => wire.end());
$("copy").addEventListener("click", () => {
  const copied = navigator.clipboard ? navigator.clipboard.writeText($("room").href) : Promise.reject();
  copied.then(() => toast("The link is copied."), () => toast($("room").href));
});

// -- what the table says

function listen(made) {
  let fresh = { canvas: true, presence: true, activity: true };
  const begins = (part) => {
    const first = fresh[part];
    fresh[part] = false;
    return first;
  };
  return made
    .on("state", showState)
    .on("latency", (ms) => ($("latency").textContent = `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`))
    .on("refused", (error) => error.reason !== "forbidden" && toast(inWords(error)))
    .on("session.welcome", (data) => {
      me = data;
      if (!data.recovered) fresh = { canvas: true, presence: true, activity: true };
      showSeat();
      if (data.recovered) awake();
    })
    .on("canvas.snapshot", ({ operations }) => {
      if (begins("canvas")) board.forget();
      board.draw(operations);
    })
    .on("presence.snapshot", ({ presence }) => {
      if (begins("presence")) people.clear();
      presence.forEach(seen);
      showPeople();
      awake();
    })
    .on("activity.snapshot", ({ activities }) => {
      if (begins("activity")) {
        $("feed").textContent = "";
        told.clear();
      }
      activities.forEach(report);
    })
    .on("canvas.draw", ({ operations }) => board.draw(operations))
    .on("canvas.clear", ({ cleared }) => board.hide(cleared))
    .on("canvas.undo", ({ operations, restored }) => changed(operations, restored))
    .on("canvas.redo", ({ operations, hidden }) => changed(hidden, operations))
    .on("canvas.preview", ({ previews }) => previews.forEach((part) => board.preview(part)))
    .on("presence.update", (data) => {
      seen(data);
      showPeople();
    })
    .on("presence.cursor", ({ cursors }) => {
      for (const { userId, x, y } of cursors) if (userId !== me.userId) board.point(userId, nameOf(userId), { x, y });
    })
    .on("activity.post", report);
}

/** A stroke that was hidden before we came is not with us: then look at the whole canvas again. */
async function changed(gone, back) {
  board.hide(gone);
  if (board.show(back)) return;
  const state = await ask("canvas.state");
  if (state) board.merge(state.operations);
}

function showState(state, reason, delay) {
  if (state === "closed") {
    leave(reason);
    return;
  }
  const wait = delay < 1000 ? "at once" : `in ${Math.round(delay / 1000)} s`;
  $("state").textContent = STATES[state] || `Not connected (${reason.replace(/_/g, " ")}). Trying again ${wait}.`;
  $("state").dataset.state = state;
  if (state !== "open") $("latency").textContent = "";
}

function showSeat() {
  $("door").hidden = true;
  $("table").hidden = false;
  $("room").textContent = me.room;
  $("room").href = `${location.origin}/?room=${encodeURIComponent(me.room)}`;
  document.title = `${me.room} – Roundtable`;
  const looksOn = me.role === "spectator";
  board.enabled = !looksOn;
  document.body.dataset.role = me.role;
  for (const control of document.querySelectorAll("#tools input, #tools button, #chat *, #dice *")) control.disabled = looksOn;
  $("clear-all").hidden = me.role !== "gm";
  board.resize();
}

function nameOf(userId) {
  return (people.get(userId) || {}).username || userId;
}

function seen(data) {
  if (data.status === "offline") {
    people.delete(data.userId);
    board.unpoint(data.userId);
    return;
  }
  people.set(data.userId, data);
  if (data.cursor && data.userId !== me.userId) board.point(data.userId, data.username, data.cursor);
}

function showPeople() {
  const rows = [...people.values()].sort((a, b) => a.username.localeCompare(b.username)).map((person) => {
    const row = document.createElement("li");
    const dot = element("span", "", `dot ${person.status}`);
    const name = element("span", person.username, "name");
    if (person.userId !== me.userId) {
      name.classList.add("other");
      name.style.setProperty("--hue", hueOf(person.userId));
    }
    const doing = person.activity ? person.activity.type : person.status === "away" ? "away" : "";
    const note = [person.userId === me.userId ? `you, ${me.role}` : "", doing].filter(Boolean).join(", ");
    row.append(dot, name, element("span", note, "note"));
    return row;
  });
  $("people").replaceChildren(...rows);
}

// -- the feed

function sentence({ type, data, username, to, visibility }) {
  switch (type) {
    case "user_joined":
      return [`${username} sat down.`];
    case "user_left":
      return [`${username} left.`];
    case "chat_message":
      return [`${username}${to ? ` whispers to ${to.map(nameOf).join(", ")}` : ""}: `, data.text];
    case "dice_roll": {
      const secret = { gm: " for the gm", blind: " blindly", self: " in secret" }[visibility] || "";
      const result = data.total === undefined ? "only the gm sees the result" : data.text;
      return [`${username} rolls${secret}${data.label ? ` (${data.label})` : ""}: `, result];
    }
    case "turn_changed":
      return [`It is the turn of ${data.current}${data.round === undefined ? "" : ` (round ${data.round})`}.`];
    case "map_updated":
      return [`${username} ${data.change === "cleared" ? "cleared the map" : `changed the map ${data.mapId}`}.`];
    case "note_edited":
      return [`${username} edited the note ${data.title || data.noteId}.`, data.summary || ""];
    default:
      return [`${username}: ${type}`];
  }
}

/** A roll's text strikes out, by `~~`, what does not count. */
function struck(text) {
  const shown = element("span", "");
  text.split("~~").forEach((part, index) => shown.append(index % 2 ? element("s", part) : part));
  return shown;
}

function report(activity) {
  if (told.has(activity.id)) return;
  told.add(activity.id);
  const feed = $("feed");
  const atEnd = feed.scrollHeight - feed.scrollTop - feed.clientHeight < 40;
  const row = element("li", "", activity.type);
  const time = element("time", new Date(activity.timestamp).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  const [lead, body] = sentence(activity);
  row.append(time, element("span", lead, body ? "lead" : ""));
  if (body) row.append(activity.type === "dice_roll" ? struck(body) : element("span", body));
  feed.append(row);
  while (feed.childElementCount > FEED_AT_MOST) feed.firstElementChild.remove();
  if (atEnd) feed.scrollTop = feed.scrollHeight;
}

/** Posts, and shows at once what comes back: of a blind roll nothing else will. */
async function share(type, data, rest = {}) {
  const activity = await ask("activity.post", { type, data, ...rest });
  if (activity) report(activity);
  return activity;
}

$("chat").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (text.trim() && (await share("chat_message", { text }))) $("text").value = "";
});

function roll(expression) {
  return share("dice_roll", { expression }, { visibility: $("visibility").value });
}

$("dice").addEventListener("submit", (event) => {
  event.preventDefault();
  roll($("expression").value.trim() || "1d20");
});
for (const sides of DICE) {
  const button = element("button", `d${sides}`);
  button.type = "button";
  button.addEventListener("click", () => roll(`1d${sides}`));
  $("dies").append(button);
}

// -- drawing

for (const [name, value] of Object.entries(COLORS)) {
  const label = element("label", "");
  label.title = name;
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "color", value });
  input.setAttribute("aria-label", name);
  input.checked = name === "Ink";
  const swatch = element("span", "");
  swatch.style.backgroundColor = value;
  label.append(input, swatch);
  $("colors").append(label);
}

function pick() {
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  const size = Number($("size").value);
  board.brush = { tool: chosen("tool"), color: chosen("color"), size: chosen("tool") === "eraser" ? size * 4 : size };
}

async function undo(method, empty) {
  const answer = await ask(method);
  if (answer && !(answer.undone || answer.redone).length) toast(empty);
}

const doings = {
  undo: () => undo("canvas.undo", "There is nothing of yours to undo."),
  redo: () => undo("canvas.redo", "There is nothing to redo."),
  clear: () => ask("canvas.clear", { scope: "mine" }),
  "clear-all": () => ask("canvas.clear", { scope: "all" }),
};
for (const [id, act] of Object.entries(doings)) $(id).addEventListener("click", act);
$("tools").addEventListener("input", pick);
pick();

document.addEventListener("keydown", (event) => {
  const writes = event.target.matches("input:not([type=radio]):not([type=range]), select, textarea");
  if ($("table").hidden || writes || event.altKey || !board.enabled) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    const act = key === "z" ? (event.shiftKey ? doings.redo : doings.undo) : key === "y" ? doings.redo : null;
    if (!act) return;
    act();
  } else if (TOOL_KEYS[key]) {
    document.querySelector(`input[value=${TOOL_KEYS[key]}]`).checked = true;
  } else if (key === "[" || key === "]") {
    $("size").value = Number($("size").value) + (key === "]" ? 2 : -2);
  } else {
    return;
  }
  event.preventDefault();
  pick();
});

document.addEventListener("visibilitychange", () => {
  if (wire && wire.open) wire.tell("presence.update", { status: document.hidden ? "away" : "online" });
});

/** A page that was reloaded said `away` as it went. */
function awake() {
  const mine = people.get(me.userId);
  if (mine && mine.status === "away" && !document.hidden) wire.tell("presence.update", { status: "online" });
}

if (seat.read("seated", sessionStorage) && join.name.value && join.room.checkValidity()) sitDown();
