// CL2, CL3, CL4 as laws: a long life on roads that fail at random, from a seed. What must always hold, holds at its end.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { RoundtableError } from "../src/errors.js";
import type { Transport } from "../src/generated.js";
import { Desk, type TestLink } from "./support/desk.js";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const CHAIN: Transport[] = ["websocket", "sse", "poll"];
const REFUSALS = [[1013, "overloaded"], [1001, "draining"], [1008, "token_expired"], [1011, "internal"]] as const;
/** A life that once failed is lived again each time. */
const SEEDS = Array.from({ length: 40 }, (_, number) => number + 1);

function chance(seed: number): () => number {
  return () => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0;
    return (seed >>> 0) / 2 ** 32;
  };
}

/** The server, as the contract has it: a log, and five minutes of memory for what it was asked. */
class World {
  readonly log: { id: string }[] = [];
  /** How often each wish came true, under whatever id it came. */
  readonly effects = new Map<number, number>();
  readonly blocked = new Set<Transport>();
  private readonly memory = new Map<string, { at: number; answer: object }>();
  private readonly readers = new Map<TestLink, (entry: { id: string }) => void>();

  constructor(
    private readonly desk: Desk,
    private readonly random: () => number,
  ) {}

  /** Messages of one link arrive in order, each after a while, unless the link dies before. */
  private road(link: TestLink): (work: () => void) => void {
    let last = 0;
    return (work) => {
      last = Math.max(last, this.desk.clock.now() + this.random() * 200);
      this.desk.clock.after(last - this.desk.clock.now(), () => !link.closed && work());
    };
  }

  receive(link: TestLink): void {
    const down = this.road(link);
    const up = this.road(link);
    if (this.blocked.has(link.transport)) {
      if (this.random() < 0.7) down(() => void link.lose());
      return; // else it hangs
    }
    if (this.random() < 0.1) {
      const [code, reason] = REFUSALS[Math.floor(this.random() * REFUSALS.length)]!;
      down(() => void link.lose(code, reason));
      return;
    }
    const tell = ({ id }: { id: string }): void => down(() => link.event("canvas.draw", {}, id));
    up(() => {
      const { cursor } = link.to;
      const place = cursor === undefined || this.random() < 0.2 ? undefined : Number(cursor.slice(1));
      const now = this.log.length;
      const welcome = { recovered: place !== undefined, limits: { messageBytes: 65_536 }, tokenExpiresAt: null };
      down(() => link.event("session.welcome", welcome, `c${place ?? now}`));
      if (place === undefined) {
        const ids = this.log.map(({ id }) => id);
        const half = Math.floor(now / 2);
        down(() => link.event("canvas.snapshot", { operations: ids.slice(0, half), more: true }));
        down(() => link.event("canvas.snapshot", { operations: ids.slice(half), more: false }));
        down(() => link.event("presence.snapshot", { presence: [], more: false }));
        down(() => link.event("activity.snapshot", { activities: [], more: false }));
      }
      for (const entry of this.log.slice(place ?? now)) tell(entry);
      this.readers.set(link, tell);
    });
    link.onSend = (message) =>
      up(() => {
        const { id, method, params } = message;
        assert(id && method);
        if (method === "heartbeat") return down(() => void link.answer(message, { serverTime: 0 }));
        if (this.random() < 0.05) return down(() => void link.refuse(message, 1008, "rate_limited", this.random() * 3));
        const { clock } = this.desk;
        const known = this.memory.get(id);
        let answer = known && clock.now() - known.at < 5 * MINUTE ? known.answer : undefined;
        if (!answer) {
          const entry = { id: `c${this.log.length + 1}` };
          this.log.push(entry);
          this.effects.set(params.wish, (this.effects.get(params.wish) ?? 0) + 1);
          for (const [reader, read] of this.readers) if (!reader.closed) read(entry);
          this.memory.set(id, { at: clock.now(), answer: (answer = { cursor: entry.id }) });
        }
        // Stored, but the service's answer is lost on the way
        if (this.random() < 0.05) return down(() => void link.refuse(message, 1013, "unavailable"));
        return down(() => void link.answer(message, answer));
      });
  }
}

async function live(seed: number): Promise<void> {
  const random = chance(seed);
  const desk = new Desk({ transports: CHAIN, lively: false, getToken: () => "token", onDial: (link) => world.receive(link) });
  const world = new World(desk, random);
  const { core, clock } = desk;
  clock.chance = random;

  let view: string[] = [];
  core.events.on("session.welcome", ({ recovered }: { recovered: boolean }) => {
    if (!recovered) view = [];
  });
  core.events.on("canvas.snapshot", ({ operations }: { operations: string[] }) => view.push(...operations));
  core.events.on("canvas.draw", (_: unknown, { id }: { id: string }) => view.push(id));

  const fates: { settled: number; outcome: string }[] = [];
  const ask = (): void => {
    const fate: (typeof fates)[number] = { settled: 0, outcome: "" };
    const wish = fates.push(fate);
    const timeout = random() < 0.2 ? random() * 20 * SECOND : undefined;
    core.requests.ask("canvas.draw", { wish }, { timeout }).then(
      () => Object.assign(fate, { settled: fate.settled + 1, outcome: "done" }),
      ({ reason }: RoundtableError) => Object.assign(fate, { settled: fate.settled + 1, outcome: reason }),
    );
  };

  core.connect().catch(() => {});
  for (let step = 0; step < 150; step++) {
    const what = random();
    if (what < 0.45) for (let count = random() * 4; count > 0; count--) ask();
    else if (what < 0.6) await desk.links[desk.links.length - 1]?.lose();
    else if (what < 0.68) world.blocked.add(CHAIN[Math.floor(random() * 3)]!);
    else if (what < 0.76) world.blocked.delete(CHAIN[Math.floor(random() * 3)]!);
    else if (what < 0.8) core.wake();
    else if (what < 0.82) core.suspend();
    else await clock.advance(random() < 0.1 ? random() * 6 * MINUTE : random() * 10 * SECOND);
    await clock.advance(random() * 500);
  }
  world.blocked.clear();
  core.wake();
  await clock.advance(10 * MINUTE);

  assert.equal(core.state, "connected");
  assert.equal(core.transport, "websocket", "it has climbed all the way back up");
  assert.deepEqual(view, world.log.map(({ id }) => id), "it knows what the server knows, once and in order");
  for (const [wish, count] of world.effects) assert.equal(count, 1, `wish ${wish} came true ${count} times`);
  for (const [number, { settled, outcome }] of fates.entries()) {
    assert.equal(settled, 1);
    assert(["done", "timeout", "rate_limited", "unavailable", "connection_lost"].includes(outcome), outcome);
    if (outcome === "done") assert.equal(world.effects.get(number + 1), 1);
  }
  assert(fates.filter(({ outcome }) => outcome === "done").length > fates.length / 4, "most of a life is a good one");
  core.disconnect();
  await clock.advance(SECOND);
  assert.deepEqual(clock.waiting, []);
}

for (const seed of SEEDS) {
  test(`CL2, CL3, CL4: life ${seed}: nothing takes effect twice, each promise settles once, and all is heard once and in order`, () => live(seed));
}
