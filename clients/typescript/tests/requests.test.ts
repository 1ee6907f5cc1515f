// CL2 and CL4: what becomes of what was asked, whatever becomes of the connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "./support/clock.js";
import { Desk, watched } from "./support/desk.js";

const MINUTE = 60_000;

test("CL2: a request without an answer at a break is asked again with its id, and settles once", async () => {
  const desk = new Desk();
  const first = await desk.open();
  const drawn = watched(desk.core.requests.ask("canvas.draw", { operations: [] }));
  const undone = watched(desk.core.requests.ask("canvas.undo", {}));
  await first.answer(first.asked("canvas.draw")[0], { operations: ["a"] });
  await first.lose();
  await desk.untilDialled();
  await desk.link.welcome();
  assert.deepEqual(desk.link.asked().map(({ id }) => id), [first.asked("canvas.undo")[0]?.id]);
  const again = desk.link.asked("canvas.undo")[0];
  await desk.link.answer(again, { undone: ["a"] });
  await desk.link.answer(again, { undone: [] });
  await desk.link.refuse(again, 1011, "internal");
  assert.deepEqual([drawn, undone], [
    { state: "resolved", times: 1, value: { operations: ["a"] } },
    { state: "resolved", times: 1, value: { undone: ["a"] } },
  ]);
});

test("CL2: an answer that comes over the old connection after the break counts no more", async () => {
  const desk = new Desk();
  const first = await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));
  const request = first.asked("canvas.undo")[0];
  await first.lose();
  await first.answer(request, { undone: ["late"] });
  assert.equal(asked.state, "waits");
});

test("CL2: no answer in time rejects with `timeout`, and an answer after that is nobody's", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const usual = watched(desk.core.requests.ask("canvas.undo", {}));
  const short = watched(desk.core.requests.ask("canvas.redo", {}, { timeout: 500 }));
  await desk.clock.advance(499);
  assert.equal(short.state, "waits");
  await desk.clock.advance(1);
  assert.equal(short.reason, "timeout");
  await desk.clock.advance(29_499);
  assert.equal(usual.state, "waits");
  await desk.clock.advance(1);
  assert.equal(usual.reason, "timeout");
  await link.answer(link.asked("canvas.redo")[0], {});
  assert.equal(short.times, 1);
});

test("CL2: a timeout of one's own runs without a connection too, the usual one does not", async () => {
  const desk = new Desk();
  const usual = watched(desk.core.requests.ask("canvas.undo", {}));
  const own = watched(desk.core.requests.ask("canvas.redo", {}, { timeout: 5_000 }));
  await desk.clock.advance(5_000);
  assert.equal(own.reason, "timeout");
  await desk.clock.advance(60 * MINUTE);
  assert.equal(usual.state, "waits");
});

test("CL2: a request in flight at a break more than 4 minutes ago is rejected, not asked again", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));
  await link.lose();
  await desk.clock.advance(4 * MINUTE - 1);
  assert.equal(asked.state, "waits");
  await desk.clock.advance(1);
  assert.equal(asked.reason, "timeout");
  await desk.link.welcome();
  assert.deepEqual(desk.link.asked(), []);
});

test("CL2: within the 4 minutes it is asked again", async () => {
  const desk = new Desk({ maxReconnectAttempts: 50 });
  const link = await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));
  await link.lose();
  for (const broken = desk.clock.now(); desk.clock.now() - broken < 3.5 * MINUTE; ) {
    await desk.untilDialled();
    await desk.clock.advance(10_000);
  }
  await desk.untilDialled();
  await desk.link.welcome();
  await desk.link.answer(desk.link.asked("canvas.undo")[0], { undone: [] });
  assert.equal(asked.state, "resolved");
});

test("CL2: over several breaks the server's memory counts from the first time that it was asked", async () => {
  const desk = new Desk({ requestTimeout: 10 * MINUTE, heartbeatInterval: 0 });
  await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));
  for (let minute = 0; minute < 4; minute++) {
    await desk.clock.advance(MINUTE);
    await desk.link.lose();
    await desk.untilDialled();
    await desk.link.welcome();
    assert.equal(desk.link.asked("canvas.undo").length, 1);
  }
  await desk.link.lose();
  await desk.clock.advance(50_000);
  assert.equal(asked.reason, "timeout");
});

test("CL2: `disconnect()` rejects what waits and what is on its way, once, with `closed`", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const flying = watched(desk.core.requests.ask("canvas.undo", {}));
  desk.core.disconnect();
  await settled();
  await link.answer(link.asked("canvas.undo")[0], {});
  assert.deepEqual([flying.reason, flying.times], ["closed", 1]);
  assert.equal(flying.value.code, 1000);
  assert.deepEqual(desk.clock.waiting, []);
});

test("CL2: an error answers a request, with code, reason, message and retryAfter", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.clear", { scope: "all" }));
  await link.refuse(link.asked("canvas.clear")[0], 1008, "forbidden");
  const { code, reason, message, retryAfter } = asked.value;
  assert.deepEqual({ code, reason, message, retryAfter }, {
    code: 1008, reason: "forbidden", message: "because of forbidden", retryAfter: undefined,
  });
});

test("CL2: what the server could not do just now is asked again with its id, while there is time", async () => {
  for (const [code, reason] of [[1013, "unavailable"], [1011, "internal"], [1013, "overloaded"], [1001, "draining"]] as const) {
    const desk = new Desk();
    const link = await desk.open();
    const asked = watched(desk.core.requests.ask("canvas.undo", {}));
    await link.refuse(link.asked("canvas.undo")[0], code, reason);
    await desk.clock.advance(499);
    assert.equal(link.asked("canvas.undo").length, 1);
    await desk.clock.advance(1);
    const [first, second] = link.asked("canvas.undo");
    assert.equal(first?.id, second?.id);
    await link.answer(second, { undone: [] });
    assert.equal(asked.state, "resolved");
  }
});

test("CL2: when the time is over, the server's last word is the reason", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}, { timeout: 10_000 }));
  for (let last = 0; asked.state === "waits"; await desk.clock.advance(100)) {
    const all = link.asked("canvas.undo");
    if (all.length > last) await link.refuse(all[(last = all.length) - 1], 1013, "unavailable");
  }
  assert.deepEqual([asked.reason, asked.times], ["unavailable", 1]);
  assert(link.asked("canvas.undo").length > 3);
});

test("CL2: too fast, a client waits as long as it is told, and then goes one by one, in order", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const asked = Array.from({ length: 5 }, (_, number) => watched(desk.core.requests.ask("canvas.undo", { number })));
  const [first, ...refused] = link.asked();
  await link.answer(first, { undone: [] });
  for (const request of refused) await link.refuse(request, 1008, "rate_limited", 0.6);
  assert.equal(link.asked().length, 5);
  const times: number[] = [];
  const began = desk.clock.now();
  for (let count = 5; count < 9; count++) {
    while (link.asked().length === count) await desk.clock.advance(10);
    times.push(desk.clock.now() - began);
    assert.equal(link.asked()[count]?.id, refused[count - 5]?.id);
    await link.answer(link.asked()[count], { undone: [] });
  }
  assert.deepEqual(times, [600, 1_200, 1_800, 2_400]);
  assert(asked.every(({ state, times: settledTimes }) => state === "resolved" && settledTimes === 1));
  void desk.core.requests.ask("canvas.undo", {});
  assert.equal(link.asked().length, 10, "then as they come again");
});

test("CL2: a wait that is longer than the request has is told at once", async () => {
  const desk = new Desk();
  const link = await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}, { timeout: 2_000 }));
  await link.refuse(link.asked()[0], 1008, "rate_limited", 2.5);
  assert.equal(asked.reason, "rate_limited");
  assert.equal(asked.value.retryAfter, 2.5);
});

test("CL4: without a connection requests wait in order, a thousand of them, and go out on return", async () => {
  const desk = new Desk();
  const link = await desk.open();
  await link.lose();
  const asked = Array.from({ length: 1_000 }, (_, number) => watched(desk.core.requests.ask("canvas.undo", { number })));
  const one = watched(desk.core.requests.ask("canvas.undo", { number: 1_000 }));
  await settled();
  assert.equal(one.reason, "queue_full");
  await desk.clock.advance(20 * MINUTE);
  assert.equal(desk.core.state, "offline");
  assert(asked.every(({ state }) => state === "waits"));
  while (desk.link.closed) await desk.untilDialled();
  const back = desk.link;
  await back.welcome();
  assert.deepEqual(back.asked().map(({ params }) => params.number), [...Array(1_000).keys()]);
  for (const request of back.asked()) await back.answer(request, { undone: [] });
  assert(asked.every(({ state, times }) => state === "resolved" && times === 1));
});

test("CL4: what was on its way at the break goes before what was asked after it", async () => {
  const desk = new Desk();
  const link = await desk.open();
  void desk.core.requests.ask("canvas.draw", { operations: [] });
  await link.lose();
  void desk.core.requests.ask("canvas.undo", {});
  await desk.untilDialled();
  await desk.link.welcome();
  assert.deepEqual(desk.link.asked().map(({ method }) => method), ["canvas.draw", "canvas.undo"]);
});

test("CL4: requests before `connect()` wait for it", async () => {
  const desk = new Desk();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));
  const link = await desk.open();
  await link.answer(link.asked("canvas.undo")[0], { undone: [] });
  assert.equal(asked.state, "resolved");
});

test("CL4: a message that asks for no answer waits in the same order; what was of that moment is not kept", async () => {
  const desk = new Desk();
  const { requests } = desk.core;
  requests.tell({ type: "event", method: "canvas.undo" });
  requests.tell({ type: "event", method: "presence.cursor", params: { x: 1, y: 1 } });
  void requests.ask("canvas.redo", {});
  const link = await desk.open();
  assert.deepEqual(link.asked().map(({ type, method }) => [type, method]), [["event", "canvas.undo"], ["request", "canvas.redo"]]);
  requests.tell({ type: "event", method: "presence.cursor", params: { x: 2, y: 2 } });
  assert.equal(link.asked("presence.cursor").length, 1);
});

test("CL4: every message that goes out has the time at which it does", async () => {
  const desk = new Desk();
  void desk.core.requests.ask("canvas.undo", {});
  await desk.clock.advance(5_000);
  const link = await desk.open();
  assert.equal(link.asked()[0]?.timestamp, desk.clock.now());
});
