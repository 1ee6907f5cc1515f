// The page's parts that need no browser: state, pace, camera, expressions.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { Activity, PresenceData, StoredOperation, Welcome } from "@roundtable/client";
import type { Drawn } from "../src/board/board.js";
import { boxOf, Camera } from "../src/board/geometry.js";
import { Scene } from "../src/board/scene.js";
import { luckOf, shifted, turned, withDie } from "../src/expression.js";
import { colorOf, initialsOf } from "../src/names.js";
import { Pace } from "../src/pace.js";
import { Strokes } from "../src/strokes.js";
import { Store } from "../src/store.js";

const ME = { userId: "ann", username: "Ann", role: "player", room: "r" } as Welcome;

function activity(id: string, type: Activity["type"], data: object): Activity {
  return { id, type, userId: "ann", username: "Ann", data, timestamp: 1 };
}

function person(userId: string, username: string, status: PresenceData["status"] = "online"): PresenceData {
  return { userId, username, status, lastSeen: 1 };
}

function line(id: string, ...points: [number, number][]): StoredOperation {
  return { id, type: "draw", tool: "pen", color: "#000", size: 4, userId: "ann", points: points.map(([x, y]) => ({ x, y })) };
}

// -- the store

test("an activity that is told twice is in the feed once", () => {
  const store = new Store();
  const heard: string[] = [];
  store.on("posted", ({ id }) => heard.push(id));
  store.posted(activity("1", "chat_message", { text: "a" }));
  store.posted(activity("1", "chat_message", { text: "a" }));
  assert.deepEqual([store.feed.length, heard], [1, ["1"]]);
});

test("the latest turn counts, in whatever order turns are learnt", () => {
  const store = new Store();
  store.posted(activity("5", "turn_changed", { current: "Ben" }));
  store.older([activity("2", "turn_changed", { current: "Ann" })]);
  store.recalled([activity("3", "turn_changed", { current: "Gil" })]);
  assert.equal(store.turn?.current, "Ben");
});

test("a map that was cleared keeps its name", () => {
  const store = new Store();
  store.posted(activity("1", "map_updated", { mapId: "m", name: "The keep" }));
  store.posted(activity("2", "map_updated", { mapId: "m", change: "cleared" }));
  assert.equal(store.map, "The keep");
});

test("older activities come before, and what is known already does not come again", () => {
  const store = new Store();
  store.activities([activity("3", "chat_message", { text: "c" })], true);
  store.older([activity("1", "chat_message", { text: "a" }), activity("3", "chat_message", { text: "c" })]);
  assert.deepEqual(store.feed.map(({ id }) => id), ["1", "3"]);
});

test("oneself stands first, others by name, and who left is known by name still", () => {
  const store = new Store();
  store.welcome(ME);
  store.presence([person("z", "Zoe"), person("ann", "Ann"), person("b", "Ben")], true);
  assert.deepEqual(store.here.map(({ username }) => username), ["Ann", "Ben", "Zoe"]);
  store.seen(person("z", "Zoe", "offline"));
  assert.deepEqual(store.here.map(({ username }) => username), ["Ann", "Ben"]);
  assert.equal(store.nameOf("z"), "Zoe");
});

// -- strokes and their pace

test("there is no waiting while there is plenty, and more the less is left", () => {
  const pace = new Pace(100);
  const waits = [];
  for (let spent = 0; spent < 90; spent += 1) {
    waits.push(pace.patience(1_000));
    pace.spend(1_000);
  }
  assert.equal(waits[0], 0);
  assert.equal(waits[60], 800);
  assert.equal(waits[89], 2_000);
  assert.equal(pace.patience(61_000), 0);
  assert.equal(new Pace(0).patience(0), 0);
});

function stroke(id: number): Drawn {
  return { id: `o${id}`, type: "draw", tool: "pen", color: "#000", size: 1, points: [{ x: 0, y: 0 }] };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
}

test("a burst of strokes is joined: all arrive, in order, below the limit", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000 });
  try {
    const sent: string[][] = [];
    const strokes = new Strokes(new Pace(100), async (batch) => void sent.push(batch.map(({ id }) => id!)), assert.fail);
    for (let id = 0; id < 400; id += 1) {
      strokes.push(stroke(id));
      mock.timers.tick(25);
    }
    mock.timers.tick(5_000);
    await settle();
    assert.deepEqual(sent.flat(), Array.from({ length: 400 }, (_, id) => `o${id}`));
    assert(sent.length < 100, `${sent.length} messages`);
    assert(sent.every(({ length }) => length <= 100));
  } finally {
    mock.timers.reset();
  }
});

test("what was too fast goes out again, with the same ids and before what came later", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000 });
  try {
    const sent: string[][] = [];
    let refusals = 1;
    const strokes = new Strokes(
      new Pace(0),
      async (batch) => {
        if (refusals-- > 0) throw { reason: "rate_limited", message: "", retryAfter: 2 };
        sent.push(batch.map(({ id }) => id!));
      },
      assert.fail,
    );
    strokes.push(stroke(1));
    await settle();
    assert.equal(strokes.size, 1);
    mock.timers.tick(2_000);
    await settle();
    strokes.push(stroke(2));
    await settle();
    assert.deepEqual(sent, [["o1"], ["o2"]]);
  } finally {
    mock.timers.reset();
  }
});

test("what is refused for good is given back", async () => {
  const back: string[] = [];
  const refuse = async () => {
    throw { reason: "forbidden", message: "No." };
  };
  new Strokes(new Pace(0), refuse, (batch) => back.push(...batch.map(({ id }) => id!))).push(stroke(1));
  await settle();
  assert.deepEqual(back, ["o1"]);
});

test("no message is larger than one may be", () => {
  const sizes: number[] = [];
  const strokes = new Strokes(new Pace(1), async (batch) => void sizes.push(JSON.stringify(batch).length), assert.fail);
  strokes.pace.spend(Date.now());
  const points = Array.from({ length: 1_000 }, (_, i) => ({ x: i + 0.5, y: i + 0.5 }));
  for (let id = 0; id < 6; id += 1) strokes.push({ ...stroke(id), points });
  strokes.flush();
  assert(sizes.length > 1);
  assert(sizes.every((size) => size < 64_000), sizes.join(" "));
});

// -- the board

test("an operation is drawn once, hidden and shown again, and only its box is painted anew", () => {
  const scene = new Scene();
  scene.add([line("a", [0, 0], [10, 10]), line("b", [100, 100], [110, 110])]);
  scene.add([line("a", [0, 0], [10, 10])]);
  assert.equal(scene.order.length, 2);
  const { box, known } = scene.turn(["b"], true);
  assert.deepEqual([box, known], [{ left: 97, top: 97, right: 113, bottom: 113 }, true]);
  assert.equal(scene.turn(["b"], true).box, null);
  assert.deepEqual(scene.bounds(), boxOf(line("a", [0, 0], [10, 10])));
  assert.equal(scene.turn(["unknown"], false).known, false);
});

test("a fresh look takes up what was hidden before we came, in its place, and keeps what is newer", () => {
  const scene = new Scene();
  scene.add([line("a", [0, 0]), line("c", [2, 2]), line("d", [3, 3])]);
  const before = scene.version;
  scene.merge([line("a", [0, 0]), line("b", [1, 1]), line("c", [2, 2])]);
  assert.deepEqual(scene.order.map(({ operation }) => operation.id), ["a", "b", "c", "d"]);
  assert.notEqual(scene.version, before);
});

test("a circle's box holds it whole: its points are the middle and a place on the rim", () => {
  const box = boxOf({ tool: "circle", size: 2, points: [{ x: 100, y: 100 }, { x: 103, y: 104 }] });
  assert.deepEqual(box, { left: 93, top: 93, right: 107, bottom: 107 });
});

test("zooming keeps the place under the pointer where it is, within bounds", () => {
  const camera = new Camera();
  camera.resize(800, 600);
  const at = { x: 200, y: 500 };
  const place = camera.toMap(at);
  camera.zoom(1.7, at);
  camera.zoom(0.3, at);
  const now = camera.toView(place);
  assert(Math.hypot(now.x - at.x, now.y - at.y) < 1e-6);
  camera.zoom(1e9, at);
  assert.equal(camera.scale, 8);
  camera.zoom(1e-9, at);
  assert.equal(camera.scale, 0.05);
});

test("showing everything shows everything, clear of the tools", () => {
  const camera = new Camera();
  camera.resize(800, 600);
  const box = { left: -300, top: 100, right: 2_000, bottom: 900 };
  camera.fit(box, { side: 50, top: 20, bottom: 120 });
  const [a, b] = [camera.toView({ x: box.left, y: box.top }), camera.toView({ x: box.right, y: box.bottom })];
  assert(a.x >= 50 - 1e-6 && b.x <= 750 + 1e-6 && a.y >= 20 - 1e-6 && b.y <= 480 + 1e-6, JSON.stringify([a, b]));
});

// -- expressions

test("a die that is touched joins its like, or stands before the number at the end", () => {
  assert.equal(withDie("", 20), "1d20");
  assert.equal(withDie("1d6", 6), "2d6");
  assert.equal(withDie("d6 + 3", 6), "2d6 + 3");
  assert.equal(withDie("2d6 + 3", 8), "2d6 + 1d8 + 3");
  assert.equal(withDie("2d6 # fire", 10), "2d6 + 1d10 # fire");
  assert.equal(withDie("1d10", 100), "1d10 + 1d100");
  assert.equal(withDie("2d20kh1", 20), "2d20kh1 + 1d20");
});

test("the number at the end grows and shrinks, and goes at nought", () => {
  assert.equal(shifted("", 1), "1d20 + 1");
  assert.equal(shifted("2d6 + 1", -1), "2d6");
  assert.equal(shifted("2d6", -1), "2d6 - 1");
  assert.equal(shifted("2d6 - 1 # cold", -1), "2d6 - 2 # cold");
});

test("advantage is two d20 of which the better counts, and can be taken back", () => {
  assert.equal(turned("", "advantage"), "2d20kh1");
  assert.equal(turned("1d20 + 5 # hit", "advantage"), "2d20kh1 + 5 # hit");
  assert.equal(turned("2d20kh1 + 5", "disadvantage"), "2d20kl1 + 5");
  assert.equal(turned("2d20kl1 + 5", "disadvantage"), "1d20 + 5");
  assert.deepEqual([luckOf("2d20kh1"), luckOf("2d20kl"), luckOf("1d20")], ["advantage", "disadvantage", null]);
});

// -- names

test("everybody has a colour of their own for all, and letters to be known by", () => {
  assert.equal(colorOf("ann"), colorOf("ann"));
  assert.match(colorOf("anybody"), /^#[0-9a-f]{6}$/);
  assert.deepEqual(["Ann", "Tom Oakley", "  ", "ümit v. k"].map(initialsOf), ["A", "TO", "?", "ÜK"]);
});
