// CL1: how a client comes back, seen from its core: what it dials, and when.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RoundtableError } from "../src/errors.js";
import { AFTER, CLOSE_ERRORS, type CloseReason } from "../src/generated.js";
import { settled } from "./support/clock.js";
import { Desk, watched } from "./support/desk.js";

const CHAIN = ["websocket", "sse", "poll"] as const;

test("CL1: pauses are a random part of what doubles from 1 s to 30 s", async () => {
  const desk = new Desk({ maxReconnectAttempts: 8 });
  await desk.open();
  const pauses: number[] = [];
  for (desk.clock.chance = 0.75; pauses.length < 8; ) {
    await desk.link.lose();
    pauses.push(await desk.untilDialled());
  }
  assert.deepEqual(pauses, [1, 2, 4, 8, 16, 30, 30, 30].map((seconds) => seconds * 750));
});

test("CL1: two clients that lost one server do not come back at the same time", async () => {
  const pauses = new Set<number>();
  for (const chance of [0, 0.1, 0.5, 0.999]) {
    const desk = new Desk();
    await desk.open();
    desk.clock.chance = chance;
    await desk.link.lose();
    pauses.add(await desk.untilDialled());
  }
  assert.deepEqual([...pauses], [0, 100, 500, 999]);
});

test("CL1: a transport that worked is tried five times more, then the next, and after the last comes `offline`", async () => {
  const desk = new Desk({ transports: [...CHAIN] });
  await desk.open();
  await desk.link.lose();
  while (desk.core.state !== "offline") {
    await desk.untilDialled();
    await desk.link.lose();
  }
  const dialled = desk.links.slice(1).map(({ transport }) => transport);
  assert.deepEqual(dialled, [...Array<string>(5).fill("websocket"), "sse", ...Array<string>(6).fill("poll")]);
  assert.equal(desk.told.filter((each) => each === "offline").length, 1);
});

test("CL1: what is blocked from the start costs one try", async () => {
  const desk = new Desk({ transports: [...CHAIN] });
  const connected = desk.core.connect();
  await settled();
  await desk.link.lose();
  assert.equal(await desk.untilDialled(0), 0);
  assert.equal(desk.link.transport, "sse");
  await desk.link.welcome();
  assert.equal((await connected).transport, "sse");
  assert.deepEqual(desk.told.filter((each) => !each.startsWith("error")), ["reconnecting sse", "transport sse", "connected"]);
});

test("CL1: a server that answers with a refusal is not asked by another transport", async () => {
  const desk = new Desk({ transports: [...CHAIN] });
  void desk.core.connect();
  await settled();
  for (let count = 0; count < 5; count++) {
    await desk.link.lose(1013, "overloaded");
    await desk.untilDialled();
    assert.equal(desk.link.transport, "websocket");
  }
});

test("CL1: offline, a look every 30 s at each transport, until one works", async () => {
  const desk = new Desk({ transports: ["websocket", "poll"], maxReconnectAttempts: 0 });
  const connected = watched(desk.core.connect());
  await settled();
  await desk.link.lose();
  await desk.untilDialled();
  await desk.link.lose();
  assert.equal(desk.core.state, "offline");
  assert.equal(connected.reason, "connection_lost");
  for (let round = 0; round < 3; round++) {
    const pause = await desk.untilDialled();
    assert(pause >= 24_000 && pause <= 30_000, `${pause}`);
    assert.equal(desk.link.transport, "websocket");
    await desk.link.lose();
    assert.equal(await desk.untilDialled(), 0);
    assert.equal(desk.link.transport, "poll");
    await desk.link.lose();
    assert.equal(desk.core.state, "offline");
  }
  await desk.untilDialled();
  await desk.link.welcome();
  assert.equal(desk.core.state, "connected");
  assert.equal(desk.told.filter((each) => each === "offline").length, 1);
});

test("CL1: a client of one transport ends after the last try, and what waits is told why", async () => {
  const desk = new Desk({ persistent: false });
  await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));
  await desk.link.lose();
  for (let attempt = 0; attempt < 5; attempt++) {
    await desk.untilDialled();
    assert.equal(asked.state, "waits");
    await desk.link.lose();
  }
  assert.equal(desk.core.state, "closed");
  assert.equal(asked.reason, "connection_lost");
  assert.deepEqual(desk.clock.waiting, []);
  void desk.core.connect();
  await settled();
  assert.equal(desk.links.length, 7, "it can be told to begin again");
});

test("CL1: a wake-up call ends the waiting at once, offline or between tries", async () => {
  const desk = new Desk({ maxReconnectAttempts: 1 });
  await desk.open();
  await desk.link.lose();
  desk.core.wake();
  await settled();
  assert.equal(desk.links.length, 2);
  desk.core.wake();
  await settled();
  assert.equal(desk.links.length, 2, "a try that is under way is enough");
  await desk.link.lose();
  assert.equal(desk.core.state, "offline");
  desk.core.wake();
  await settled();
  assert.equal(desk.links.length, 3);
});

test("CL1: a welcome makes the pauses short again", async () => {
  const desk = new Desk();
  await desk.open();
  for (let count = 0; count < 20; count++) {
    await desk.link.lose();
    assert.equal(await desk.untilDialled(), 500);
    await desk.link.welcome();
  }
});

test("CL1: a dial that is not welcomed in time has failed", async () => {
  const desk = new Desk();
  void desk.core.connect();
  await settled();
  const { link } = desk;
  await desk.clock.advance(10_000);
  assert(link.closed);
  await desk.untilDialled();
  link.event("session.welcome", { recovered: true }, "late");
  assert.equal(desk.core.state, "connecting");
});

test("CL1: back on a poor transport, a better one takes over, on the same cursor, and nothing that waits is lost", async () => {
  const desk = new Desk({ transports: [...CHAIN], requestTimeout: 600_000 });
  void desk.core.connect();
  await settled();
  await desk.link.lose();
  await settled();
  await desk.clock.advance(0);
  await desk.link.lose();
  await desk.clock.advance(0);
  const poll = desk.link;
  assert.equal(poll.transport, "poll");
  await poll.welcome();
  poll.event("canvas.draw", { operations: [] }, "c1");
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));

  const pause = await desk.untilDialled();
  assert(pause >= 24_000 && pause <= 30_000, `${pause}`);
  assert.equal(desk.link.transport, "websocket");
  assert.equal(desk.link.to.cursor, "c1");
  await desk.link.lose();
  assert.equal(desk.core.state, "connected");
  await desk.clock.advance(0);
  assert.equal(desk.link.transport, "sse", "then the next better one");
  await desk.link.lose();
  assert.equal(poll.closed, false);

  await desk.untilDialled();
  const socket = desk.link;
  const heard: string[] = [];
  desk.core.events.on("canvas.draw", (_: unknown, { id }: { id: string }) => heard.push(id));
  poll.event("canvas.draw", { operations: [] }, "c2");
  await socket.welcome();
  assert(poll.closed);
  assert.equal(desk.core.transport, "websocket");
  socket.event("canvas.draw", { operations: [] }, "c2");
  socket.event("canvas.draw", { operations: [] }, "c3");
  assert.deepEqual(heard, ["c2", "c3"]);
  const again = socket.asked("canvas.undo")[0];
  assert.equal(again?.id, poll.asked("canvas.undo")[0]?.id);
  await socket.answer(again, { undone: [] });
  assert.equal(asked.state, "resolved");
  assert.equal(desk.told.filter((each) => each === "connected").length, 1, "nobody was disconnected");
  assert.deepEqual(desk.told.filter((each) => each.startsWith("transport")), ["transport poll", "transport websocket"]);
});

test("CL1: on a poor transport, a wake-up call also looks for a better one at once", async () => {
  const desk = new Desk({ transports: ["websocket", "poll"] });
  void desk.core.connect();
  await settled();
  await desk.link.lose();
  await desk.clock.advance(0);
  await desk.link.welcome();
  desk.core.wake();
  await desk.clock.advance(0);
  assert.equal(desk.link.transport, "websocket");
});

// What comes after each reason: the contract's one table

for (const reason of Object.keys(CLOSE_ERRORS) as CloseReason[]) {
  const { code } = CLOSE_ERRORS[reason];
  test(`CL1: after ${code} ${reason} a client does what the table says: ${AFTER[reason]}`, async () => {
    let token = 0;
    const desk = new Desk({ getToken: () => `token-${(token += 1)}` });
    const link = await desk.open();
    const asked = watched(desk.core.requests.ask("canvas.undo", {}));
    await link.lose(code, reason);
    if (AFTER[reason] === "stop") {
      assert.equal(desk.core.state, "closed");
      assert.equal(asked.reason, reason);
      await desk.clock.advance(600_000);
      assert.equal(desk.links.length, 1);
      return;
    }
    assert.equal(desk.core.state, "reconnecting");
    const pause = await desk.untilDialled();
    assert.equal(pause, AFTER[reason] === "token" ? 0 : 500);
    assert.equal(desk.link.to.token(), "token-2");
    await desk.link.welcome();
    assert.equal(asked.state, AFTER[reason] === "mend" ? "rejected" : "waits");
    assert.equal(desk.link.asked("canvas.undo").length, AFTER[reason] === "mend" ? 0 : 1);
  });
}

test("CL1: a close of a code that no table has is like a broken line", async () => {
  for (const [code, reason] of [[1006, ""], [1008, "word_of_a_newer_server"], [4000, "proxy"], [1012, ""]] as const) {
    const desk = new Desk();
    await desk.open();
    await desk.link.lose(code, reason);
    assert.equal(await desk.untilDialled(), 500);
  }
});

test("CL1: `rate_limited` with a time waits so long, whatever wakes it", async () => {
  const desk = new Desk();
  void desk.core.connect();
  await settled();
  await desk.link.fail(new RoundtableError(1008, "rate_limited", "too many", 7));
  await desk.clock.advance(6_999);
  desk.core.wake();
  await settled();
  assert.equal(desk.links.length, 1);
  assert.equal(await desk.untilDialled(), 1);
});

test("CL1: a token that ends again and again is not asked for in a storm", async () => {
  let asked = 0;
  const desk = new Desk({ getToken: () => `${(asked += 1)}` });
  void desk.core.connect();
  await settled();
  const pauses: number[] = [];
  for (let count = 0; count < 4; count++) {
    await desk.link.lose(1008, "token_expired");
    pauses.push(await desk.untilDialled());
  }
  assert.deepEqual(pauses, [0, 1_000, 2_000, 4_000]);
  assert.equal(asked, 5);
});

test("CL1: an ended token that nobody can renew is the end", async () => {
  const desk = new Desk({ token: "old" });
  const connected = watched(desk.core.connect());
  await settled();
  assert.equal(desk.link.to.token(), "old");
  await desk.link.lose(1008, "token_expired");
  assert.equal(desk.core.state, "closed");
  assert.equal(connected.reason, "token_expired");
});

test("CL1: a token that cannot be fetched is tried again, unless its source says that it never will be", async () => {
  let failure: unknown = new Error("the network is down");
  const desk = new Desk({
    getToken: () => {
      if (failure) throw failure;
      return "token";
    },
  });
  const connected = watched(desk.core.connect());
  await settled();
  assert.equal(desk.links.length, 0);
  assert.equal(desk.core.state, "connecting");
  failure = undefined;
  await desk.untilDialled();
  await desk.link.welcome();
  assert.equal(connected.state, "resolved");

  failure = new RoundtableError(1008, "forbidden", "You were banned");
  await desk.link.lose();
  await desk.clock.advance(1_000);
  assert.equal(desk.core.state, "closed");
});

test("CL1: with `reconnect: false` a break is the end", async () => {
  const desk = new Desk({ reconnect: false });
  const link = await desk.open();
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));
  await link.lose();
  assert.equal(desk.core.state, "closed");
  assert.equal(asked.reason, "connection_lost");
  await desk.clock.advance(600_000);
  assert.equal(desk.links.length, 1);
});

test("CL1: after `disconnect()` nothing is dialled, and `connect()` goes on from the same cursor", async () => {
  const desk = new Desk();
  const link = await desk.open();
  link.event("canvas.draw", { operations: [] }, "c7");
  desk.core.disconnect();
  assert(link.closed);
  await desk.clock.advance(600_000);
  assert.equal(desk.links.length, 1);
  assert.deepEqual(desk.clock.waiting, [], "and no timer is left behind");
  void desk.core.connect();
  await settled();
  assert.equal(desk.link.to.cursor, "c7");
});

test("CL1: `disconnect()` while dialling ends the dial", async () => {
  const desk = new Desk();
  const connected = watched(desk.core.connect());
  await settled();
  desk.core.disconnect();
  await settled();
  assert(desk.link.closed);
  assert.equal(connected.reason, "closed");
  await desk.link.welcome();
  assert.equal(desk.core.state, "closed");
});

// Signs of life

test("CL1: a server that no longer says anything is given up, though no close ever comes", async () => {
  const desk = new Desk({ lively: false });
  const link = await desk.open();
  await link.answer(link.asked("heartbeat")[0], { serverTime: 1 });
  await desk.clock.advance(30_000);
  assert.equal(link.asked("heartbeat").length, 2);
  await desk.clock.advance(9_999);
  assert.equal(desk.core.state, "connected");
  await desk.clock.advance(1);
  assert.equal(desk.core.state, "reconnecting");
  assert(link.closed);
  assert.equal(await desk.untilDialled(), 500);
});

test("CL1: a server that has much to say before it answers is alive", async () => {
  const desk = new Desk({ lively: false });
  const link = await desk.open();
  await desk.clock.advance(9_000);
  link.event("canvas.draw", { operations: [] }, "c1");
  await desk.clock.advance(5_000);
  assert.equal(desk.core.state, "connected");
});

test("CL1: a wake-up call finds out at once whether a connection still lives", async () => {
  const desk = new Desk({ lively: false });
  const link = await desk.open();
  await link.answer(link.asked("heartbeat")[0], { serverTime: 1 });
  await desk.clock.advance(1_000);
  desk.core.wake();
  assert.equal(link.asked("heartbeat").length, 2);
  await desk.clock.advance(10_000);
  assert.equal(desk.core.state, "reconnecting");
});

test("CL1: heartbeats measure the latency", async () => {
  const desk = new Desk({ lively: false });
  const told: unknown[] = [];
  desk.core.events.on("latency", (milliseconds: number) => told.push(milliseconds));
  desk.core.events.on("heartbeat", (data: unknown) => told.push(data));
  const link = await desk.open();
  await desk.clock.advance(42);
  await link.answer(link.asked("heartbeat")[0], { serverTime: 7 });
  assert.deepEqual(told, [42, { serverTime: 7 }]);
  assert.equal(desk.core.latency, 42);
});

test("CL1: a page that is put away lets go of its connection, and comes back to it with its cursor", async () => {
  const desk = new Desk({ lively: false });
  const link = await desk.open();
  link.event("canvas.draw", { operations: [] }, "c5");
  const asked = watched(desk.core.requests.ask("canvas.undo", {}));
  desk.core.suspend();
  assert(link.closed);
  await desk.clock.advance(60_000);
  assert.equal(desk.links.length, 1);
  desk.core.wake();
  await settled();
  assert.equal(desk.link.to.cursor, "c5");
  await desk.link.welcome();
  assert.equal(desk.link.asked("canvas.undo").length, 1);
  assert.equal(asked.state, "waits");
});
