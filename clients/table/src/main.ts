// Page layer: brings door, board, panels and wire together.

import { Board } from "./board/board.js";
import { $ } from "./dom.js";
import { newId } from "./ids.js";
import { shortcuts } from "./keys.js";
import { bar } from "./panels/bar.js";
import { Dice } from "./panels/dice.js";
import { Door } from "./panels/door.js";
import { Feed } from "./panels/feed.js";
import { people } from "./panels/people.js";
import { Tabs } from "./panels/tabs.js";
import { Talk } from "./panels/talk.js";
import { toast } from "./panels/toasts.js";
import { Tools } from "./panels/tools.js";
import { Turns } from "./panels/turns.js";
import { Store } from "./store.js";
import { Table } from "./table.js";

const store = new Store();
const board: Board = new Board($<HTMLCanvasElement>("ink"), $<HTMLCanvasElement>("board"), {
  newId: () => newId("o-"),
  preview: (part) => table.preview(part),
  pointer: (at) => table.pointer(at),
  stroke: (operation) => table.stroke(operation),
  busy: (drawing) => drawing && table.busyWith("drawing"),
  viewed: () => {
    tools?.viewed();
    $("blank").hidden = board.scene.size > 0;
  },
});
const table: Table = new Table(store, board, {
  say: toast,
  left: (reason) => {
    $("table").hidden = true;
    document.title = "Roundtable";
    door.show(reason);
  },
});
const door = new Door((seat) => table.sit(seat));
const tools: Tools = new Tools(board, store, table);
const dice = new Dice(store, table);
const talk = new Talk(store, table, (typed) => dice.roll(typed));
const turns = new Turns(store, table);
const tabs = new Tabs();
new Feed(store, table, (activity) => activity.userId !== store.myId && tabs.heard());
people(store, table, board, talk);
bar(store, table, () => board.resize());
shortcuts({ table, tools, talk, dice, turns, tab: (name) => tabs.show(name) });

store.on("me", () => {
  $("door").hidden = true;
  $("table").hidden = false;
  board.resize();
});
window.addEventListener("beforeunload", (event) => {
  if (table.seated && table.unsent) event.preventDefault(); // what has not gone out would be lost
});
door.begin();
