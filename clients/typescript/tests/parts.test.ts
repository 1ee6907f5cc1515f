// The small parts by themselves: addresses, the parser of event streams, the throttle, the stroke.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Address } from "../src/address.js";
import type { DrawOperation } from "../src/generated.js";
import { beginStroke } from "../src/stroke.js";
import { Throttle } from "../src/throttle.js";
import { StreamParser } from "../src/transports/sse-parser.js";
import { TestClock } from "./support/clock.js";

test("an address leads to every door, whichever one it names", () => {
  const doors = (given: string, base?: string): string[] => {
    const address = new Address(given, base);
    return (["ws", "sse", "poll", "rpc"] as const).map((door) => address.of(door));
  };
  assert.deepEqual(doors("ws://localhost:8080"), [
    "ws://localhost:8080/", "http://localhost:8080/sse", "http://localhost:8080/poll", "http://localhost:8080/rpc",
  ]);
  const usual = ["ws://localhost:8080/ws", "http://localhost:8080/sse", "http://localhost:8080/poll", "http://localhost:8080/rpc"];
  for (const given of ["http://localhost:8080", "http://localhost:8080/", "http://localhost:8080/sse", "ws://localhost:8080/ws", "http://localhost:8080/poll/#part"]) {
    assert.deepEqual(doors(given), usual);
  }
  const proxied = ["wss://example.org/games/ws", "https://example.org/games/sse", "https://example.org/games/poll", "https://example.org/games/rpc"];
  assert.deepEqual(doors("https://example.org/games/"), proxied);
  assert.deepEqual(doors("wss://example.org/games/ws"), proxied);
  assert.deepEqual(doors("/games/sse", "https://example.org/page?x=1"), proxied);
  assert.equal(new Address("/", "https://example.org/page?room=a").of("auth/ticket"), "https://example.org/auth/ticket");
});

test("what a query asks for stands beside what the address says, and wins", () => {
  const address = new Address("ws://localhost:8080/?room=den&x=1");
  assert.equal(address.of("ws", { room: undefined, cursor: "a.b" }), "ws://localhost:8080/?room=den&x=1&cursor=a.b");
  assert.equal(address.of("sse", { room: "the hall" }), "http://localhost:8080/sse?room=the+hall&x=1");
  assert.throws(() => new Address("not an address"), TypeError);
});

test("an event stream is read the same wherever it is cut", () => {
  const text = ': welcome\n\nevent: canvas.draw\nid: c1\ndata: {"a":1}\n\ndata: one\r\ndata:two\r\n\r\nevent\ndata\n\nevent: lost\n\nretry: 5\rdata: end\r\r\n';
  const expected = [
    { name: "canvas.draw", data: '{"a":1}' },
    { name: "message", data: "one\ntwo" },
    { name: "message", data: "" },
    { name: "message", data: "end" },
  ];
  for (let first = 0; first <= text.length; first++) {
    for (let second = first; second <= text.length; second += 7) {
      const parser = new StreamParser();
      const found = [text.slice(0, first), text.slice(first, second), text.slice(second)].flatMap((piece) => parser.feed(piece));
      assert.deepEqual(found, expected, `cut at ${first} and ${second}`);
    }
  }
});

test("a throttle lets the first one through, then the latest of each interval, and the last one always", async () => {
  const clock = new TestClock();
  const seen: [number, number][] = [];
  const began = clock.now();
  let value = 0;
  const throttle = new Throttle(clock, () => 20, () => seen.push([clock.now() - began, value]));
  for (value = 1; value <= 50; value++) {
    throttle.run();
    await clock.advance(1);
  }
  await clock.advance(100);
  assert.deepEqual(seen, [[0, 1], [20, 20], [40, 40], [60, 51]]);
});

function sheet({ fluent = true } = {}) {
  const clock = new TestClock();
  const previews: any[] = [];
  const drawn: DrawOperation[][] = [];
  const paper = {
    clock, interval: () => 16, fluent: () => fluent,
    tell: (method: string, params: object) => previews.push({ method, ...params }),
    draw: (operations: DrawOperation[]) => {
      drawn.push(operations);
      return Promise.resolve({ operations: operations.map(({ id }) => id!) });
    },
  };
  return { clock, previews, drawn, paper };
}

test("a stroke shows each point once as live ink, and is one operation with the same id in the end", async () => {
  const { clock, previews, drawn, paper } = sheet();
  const stroke = beginStroke(paper, "s1", { color: "#c33", size: 4 });
  for (let step = 0; step < 100; step++) {
    stroke.add(step, step / 3);
    await clock.advance(4);
  }
  await clock.advance(20);
  const shown = previews.flatMap(({ points }) => points);
  assert.deepEqual(shown, stroke.points);
  assert.equal(stroke.points.length, 100);
  assert(previews.length <= 27, `${previews.length} previews in 420 ms`);
  assert(previews.every(({ method, id, tool, color, size }) => method === "canvas.preview" && id === "s1" && tool === "pen" && color === "#c33" && size === 4));

  assert.deepEqual(await stroke.end(), { operations: ["s1"] });
  assert.deepEqual(drawn, [[{ type: "draw", tool: "pen", color: "#c33", size: 4, id: "s1", points: shown }]]);
  stroke.add(500, 500);
  await stroke.end();
  await clock.advance(100);
  assert.equal(drawn.length, 1);
  assert.equal(previews.flatMap(({ points }) => points).length, 100);
});

test("points that nobody could tell apart are joined, and numbers rounded to what a map shows", async () => {
  const { drawn, paper } = sheet();
  const stroke = beginStroke(paper, "s1", { tool: "eraser" });
  for (const [x, y] of [[0.123456, 0], [0.2, 0.1], [0.3, 0.2], [1.00499, 2], [1.1, 2]] as const) stroke.add(x, y);
  await stroke.end();
  assert.deepEqual(drawn[0]?.[0]?.points, [{ x: 0.12, y: 0 }, { x: 1, y: 2 }]);
  assert.equal(drawn[0]?.[0]?.type, "erase");
});

test("a stroke of any length fits into one operation of at most 2,000 points and 64 KB, from its first point to its last", async () => {
  const { drawn, paper } = sheet();
  const stroke = beginStroke(paper, "s1", {});
  const last = 25_000;
  for (let step = 0; step <= last; step++) stroke.add(-900_000 - step * 1.37, 900_000.11 + step * 2.91);
  await stroke.end();
  const operation = drawn[0]![0]!;
  assert.equal(drawn.length, 1);
  assert(operation.points.length <= 2_000 && operation.points.length > 500, `${operation.points.length}`);
  assert(JSON.stringify(operation).length < 64_000);
  assert.deepEqual(operation.points[0], { x: -900_000, y: 900_000.11 });
  assert.deepEqual(operation.points[operation.points.length - 1], { x: Math.round((-900_000 - last * 1.37) * 100) / 100, y: Math.round((900_000.11 + last * 2.91) * 100) / 100 });
});

test("a stroke without a point is nothing to draw", async () => {
  const { drawn, paper } = sheet();
  assert.deepEqual(await beginStroke(paper, "s1", {}).end(), { operations: [] });
  assert.equal(drawn.length, 0);
});

test("live ink waits while there is no way for it, and is not lost", async () => {
  const sheetOf = sheet();
  let fluent = false;
  const stroke = beginStroke({ ...sheetOf.paper, fluent: () => fluent }, "s1", {});
  stroke.add(0, 0);
  await sheetOf.clock.advance(20);
  stroke.add(9, 9);
  await sheetOf.clock.advance(20);
  assert.equal(sheetOf.previews.length, 0);
  fluent = true;
  stroke.add(18, 18);
  await sheetOf.clock.advance(20);
  assert.deepEqual(sheetOf.previews.map(({ points }) => points.length), [3]);
});
