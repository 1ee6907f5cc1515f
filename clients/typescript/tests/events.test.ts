// CL3, and what handlers hear: each event once, by its names, with the cursor of what has been heard.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "./support/clock.js";
import { Desk } from "./support/desk.js";

function heardBy(desk: Desk, event: string): unknown[] {
  const heard: unknown[] = [];
  desk.core.events.on(event, (_: unknown, message: { id?: string }) => heard.push(message.id));
  return heard;
}

test("CL3: an event whose id has been seen is dropped, on this connection and after a reconnect", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const heard = heardBy(desk, "canvas.draw");
  link.event("canvas.draw", {}, "c1");
  link.event("canvas.draw", {}, "c1");
  link.event("canvas.draw", {}, "c2");
  await link.lose();
  await desk.untilDialled();
  await desk.link.welcome({ cursor: "c2" });
  desk.link.event("canvas.draw", {}, "c2");
  desk.link.event("canvas.draw", {}, "c3");
  assert.deepEqual(heard, ["c1", "c2", "c3"]);
});

test("CL3: what has no id is told each time", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const heard = heardBy(desk, "presence.cursor");
  link.event("presence.cursor", { cursors: [] });
  link.event("presence.cursor", { cursors: [] });
  assert.equal(heard.length, 2);
});

test("CL3: what is remembered of ids is bounded", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const heard = heardBy(desk, "canvas.draw");
  for (let number = 0; number < 5_000; number++) link.event("canvas.draw", {}, `c${number}`);
  link.event("canvas.draw", {}, "c4999");
  link.event("canvas.draw", {}, "c1000");
  assert.equal(heard.length, 5_000);
});

test("CL3: the cursor is that of the event which a handler hears", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const cursors: unknown[] = [];
  desk.core.events.on("*", () => cursors.push(desk.core.cursor));
  link.event("canvas.draw", {}, "c1");
  link.event("session.cursor", {}, "c2");
  link.event("presence.cursor", {});
  assert.deepEqual(cursors, ["c1", "c2", "c2"]);
});

test("CL3: before all snapshots have come there is no cursor to come back with", async () => {
  const desk = new Desk();
  void desk.core.connect();
  await settled();
  const { link } = desk;
  const welcome = { recovered: false, limits: {}, transport: "websocket" };
  link.event("session.welcome", welcome, "c9");
  link.event("canvas.snapshot", { operations: [], more: true });
  link.event("canvas.snapshot", { operations: [], more: false });
  link.event("presence.snapshot", { presence: [], more: false });
  assert.equal(desk.core.cursor, undefined);
  await link.lose();
  await desk.untilDialled();
  assert.equal(desk.link.to.cursor, undefined);
  desk.link.event("session.welcome", welcome, "c9");
  for (const name of ["canvas", "presence", "activity"]) desk.link.event(`${name}.snapshot`, { more: false });
  assert.equal(desk.core.cursor, "c9");
});

test("CL3: a server that cannot go on from the cursor begins anew, and so do the ids", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const heard = heardBy(desk, "canvas.draw");
  link.event("canvas.draw", {}, "c1");
  await link.lose();
  await desk.untilDialled();
  await desk.link.welcome({ recovered: false, cursor: "c0" });
  desk.link.event("canvas.draw", {}, "c1");
  assert.deepEqual(heard, ["c1", "c1"]);
});

test("an event is heard by its method, by the short name, and by `*`; every message by `message`", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const heard: string[] = [];
  for (const name of ["canvas.draw", "draw", "*", "message"]) desk.core.events.on(name, () => heard.push(name));
  link.event("canvas.draw", {}, "c1");
  assert.deepEqual(heard, ["message", "canvas.draw", "draw", "*"]);
  heard.length = 0;
  link.hear({ type: "response", id: "nobody's", data: {} });
  assert.deepEqual(heard, ["message"]);
});

test("what the filter refuses no handler hears, but it moves the cursor", async () => {
  const desk = new Desk({ eventFilter: ({ type, id }) => type !== "heartbeat" && id !== "c2" });
  const link = await desk.open();
  const heard = heardBy(desk, "*");
  link.event("heartbeat", { serverTime: 1 });
  link.event("canvas.draw", {}, "c1");
  link.event("canvas.draw", {}, "c2");
  assert.deepEqual(heard, ["c1"]);
  assert.equal(desk.core.cursor, "c2");
});

test("a handler that throws is reported as uncaught, and keeps nobody from hearing", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const heard = heardBy(desk, "canvas.undo");
  const uncaught: unknown[] = [];
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.once("uncaughtException", (error) => uncaught.push(error));
  try {
    const off = desk.core.events.on("canvas.draw", () => {
      throw new Error("a bug of the application");
    });
    heardBy(desk, "canvas.draw");
    link.event("canvas.draw", {}, "c1");
    off();
    link.event("canvas.undo", {}, "c2");
    await settled();
  } finally {
    for (const listener of others) process.on("uncaughtException", listener);
  }
  assert.deepEqual(heard, ["c2"]);
  assert.equal(uncaught.length, 1);
});

test("a handler that disconnects in the middle of a welcome is obeyed", async () => {
  const desk = new Desk();
  desk.core.events.on("session.welcome", () => desk.core.disconnect());
  void desk.core.connect();
  void desk.core.requests.ask("canvas.undo", {}).catch(() => {});
  await settled();
  const { link } = desk;
  link.event("session.welcome", { recovered: true, limits: {} }, "c1");
  await settled();
  assert.equal(desk.core.state, "closed");
  assert.deepEqual(link.sent, []);
  assert.deepEqual(desk.clock.waiting, []);
});

test("an error that answers nothing that was asked is told as `error`", async () => {
  const desk = new Desk();
  const link = await desk.open();
  link.hear({ type: "error", error: { code: 1007, reason: "invalid_data", message: "no" } });
  assert(desk.told.includes("error invalid_data"));
});

test("a token that is about to end is replaced in the living connection", async () => {
  let count = 0;
  const desk = new Desk({ getToken: () => `token-${(count += 1)}` });
  const link = await desk.open();
  link.event("session.token_expiring", { expiresAt: 1 });
  await settled();
  const request = link.asked("auth.refresh")[0];
  assert.deepEqual(request?.params, { token: "token-2" });
  assert.equal(link.to.token(), "token-2");
  await link.answer(request, { userId: "ann", username: "Ann", role: "gm", tokenExpiresAt: 99 });
  assert.equal(desk.core.welcome?.tokenExpiresAt, 99);
  assert.equal(desk.core.welcome?.role, "gm");
  assert.equal(desk.links.length, 1);
});

test("a new token that is refused is told, and the connection goes on with the old one", async () => {
  const desk = new Desk({ getToken: () => "another's" });
  const link = await desk.open();
  link.event("session.token_expiring", { expiresAt: 1 });
  await settled();
  await link.refuse(link.asked("auth.refresh")[0], 1008, "forbidden");
  assert(desk.told.includes("error forbidden"));
  assert.equal(desk.core.state, "connected");
});
