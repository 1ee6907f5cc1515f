// The clients at a real table: the same behaviour over every transport and format.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EventSource } from "eventsource";
import { RoundtableError, SSEClient } from "../src/index.js";
import { address, client, FORMS, GATEWAYS, newRoom, operation, options, strokesHeardBy, token, until, withClients } from "./support/table.js";

async function rejection(promise: Promise<unknown>): Promise<RoundtableError> {
  try {
    await promise;
  } catch (error) {
    assert(error instanceof RoundtableError, `${error}`);
    return error;
  }
  throw new assert.AssertionError({ message: "it was granted" });
}

for (const form of FORMS) {
  test(`${form}: what one draws both hear, in one order, and the answer says what was stored`, async () => {
    const room = newRoom();
    await withClients([client(form, { room }), client(form, { room, user: "bob" }, address(1))], async (ann, bob) => {
      const [heardByAnn, heardByBob] = [strokesHeardBy(ann), strokesHeardBy(bob)];
      const welcome = await ann.connect();
      await bob.connect();
      assert.equal(welcome.userId, "ann");
      assert.equal(welcome.room, room);
      assert.equal(ann.transport, form.split(" ")[0]);
      assert.equal(ann.connectionId, welcome.connectionId);
      const answers = await Promise.all([
        ann.request("canvas.draw", { operations: [operation("a1"), operation("a2")] }),
        bob.request("canvas.draw", { operations: [operation("b1")] }),
      ]);
      assert.deepEqual(answers.map(({ operations }) => operations), [["a1", "a2"], ["b1"]]);
      await until(() => heardByAnn.length === 3 && heardByBob.length === 3, "all strokes heard");
      assert.deepEqual(heardByAnn, heardByBob);
      const undone: string[][] = [];
      bob.on("undo", ({ operations }) => undone.push(operations));
      assert.deepEqual((await ann.request("canvas.undo")).undone, ["a1", "a2"]);
      await until(() => undone.length, "the undo heard by its short name");
      assert.deepEqual(undone, [["a1", "a2"]]);
    });
  });

  test(`${form}: an error has code, reason, message; the connection goes on`, async () => {
    await withClients([client(form, { room: newRoom() })], async (ann) => {
      await ann.connect();
      const error = await rejection(ann.request("canvas.draw", { operations: [] }));
      assert.deepEqual([error.code, error.reason], [1007, "invalid_data"]);
      assert.match(error.message, /operations/);
      const unknown = await rejection(ann.request("canvas.explode"));
      assert.deepEqual([unknown.code, unknown.reason], [1003, "unknown_method"]);
      assert.equal((await rejection(ann.request("canvas.clear", { scope: "all" }))).reason, "forbidden");
      assert.deepEqual((await ann.request("canvas.state")).operations, []);
    });
  });

  test(`${form}: a message over 64 KB is refused before it breaks anything`, async () => {
    await withClients([client(form, { room: newRoom() })], async (ann) => {
      await ann.connect();
      const told: string[] = [];
      ann.on("disconnected", ({ reason }) => told.push(reason));
      const text = "a".repeat(66_000);
      const error = await rejection(ann.request("activity.post", { type: "chat_message", data: { text } }));
      assert.deepEqual([error.code, error.reason], [1009, "too_big"]);
      await ann.request("canvas.state");
      assert.deepEqual(told, []);
    });
  });

  test(`${form}: a token that is not one of ours ends it, for good`, async () => {
    const ann = client(form, { token: `${token("ann").slice(0, -4)}AAAA` });
    const told: string[] = [];
    ann.on("reconnecting", () => told.push("reconnecting"));
    const error = await rejection(ann.connect());
    assert.deepEqual([error.code, error.reason, ann.state, told], [1008, "token_invalid", "closed", []]);
    assert.equal((await rejection(ann.request("canvas.state"))).reason, "closed");
  });

  test(`${form}: a room that cannot be is refused`, async () => {
    const error = await rejection(client(form, { room: "no such room" }).connect());
    assert.deepEqual([error.code, error.reason], [1008, "invalid_room"]);
  });

  test(`${form}: pointers and live ink reach the others`, async () => {
    const room = newRoom();
    await withClients([client(form, { room }), client("websocket json", { room, user: "bob" })], async (ann, bob) => {
      await ann.connect();
      await bob.connect();
      const pointers: unknown[] = [];
      const ink: unknown[] = [];
      bob.on("presence.cursor", ({ cursors }) => pointers.push(...cursors.filter(({ userId }) => userId === "ann")));
      bob.on("canvas.preview", ({ previews }) => ink.push(...previews.flatMap(({ points }) => points)));
      for (let step = 0; step <= 30; step++) ann.point(step, 2 * step);
      const stroke = ann.stroke({ color: "#00f", size: 3 });
      for (let step = 0; step < 40; step++) {
        stroke.add(step, step);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      await until(() => pointers.length && ink.length, "pointer and ink seen");
      await until(() => (pointers[pointers.length - 1] as { x: number }).x === 30, "the last place");
      const heard = strokesHeardBy(bob);
      assert.deepEqual((await stroke.end()).operations, [stroke.id]);
      await until(() => heard.includes(stroke.id), "the stroke");
      const stored = (await bob.request("canvas.state")).operations;
      assert.deepEqual(stored.map(({ id, points }) => [id, points.length]), [[stroke.id, 40]]);
    });
  });

  test(`${form}: a token is renewed while it is used, and the connection outlives the old one`, async () => {
    let given = 0;
    const ann = client(form, { room: newRoom(), getToken: () => token("ann", { ttl: (given += 1) === 1 ? 1.5 : 600 }) });
    await withClients([ann], async () => {
      const told: string[] = [];
      ann.on("disconnected", ({ reason }) => told.push(reason));
      const { connectionId, tokenExpiresAt } = await ann.connect();
      await until(() => ann.welcome!.tokenExpiresAt! > tokenExpiresAt! + 60_000, "a new token in the connection");
      await until(() => Date.now() > tokenExpiresAt! + 100, "the end of the old token");
      await ann.request("canvas.state");
      assert.deepEqual([ann.connectionId, given, told], [connectionId, 2, []]);
    });
  });

  test(`${form}: an ended token is replaced at the next connect`, async () => {
    let given = 0;
    const ann = client(form, { room: newRoom(), getToken: () => token("ann", { ttl: (given += 1) === 1 ? -60 : 600 }) });
    await withClients([ann], async () => {
      await ann.connect();
      assert.equal(given, 2);
    });
  });

  test(`${form}: a new client goes on from the cursor of an old one`, async () => {
    const room = newRoom();
    await withClients([client("websocket json", { room }), client(form, { room, user: "bob" })], async (ann, bob) => {
      await ann.connect();
      await bob.connect();
      const heard = strokesHeardBy(bob);
      await ann.request("canvas.draw", { operations: [operation("a1")] });
      await until(() => heard.length === 1, "the first stroke");
      const { cursor } = bob;
      bob.disconnect();
      await ann.request("canvas.draw", { operations: [operation("a2")] });
      const again = client(form, { room, user: "bob", ...(cursor ? { cursor } : {}) }, address(1));
      const heardAgain = strokesHeardBy(again);
      await withClients([again], async () => {
        assert.equal((await again.connect()).recovered, true);
        await until(() => heardAgain.length, "what was missed");
        assert.deepEqual(heardAgain, ["a2"]);
      });
    });
  });
}

test("a token too long for a handshake goes as the first message", async () => {
  const long = token("ann", { note: "n".repeat(6_000) });
  assert(long.length > 8_000);
  await withClients([client("websocket json", { room: newRoom(), token: long })], async (ann) => {
    assert.equal((await ann.connect()).userId, "ann");
    await ann.request("canvas.state");
  });
});

test("where responses cannot be read as they come, a native EventSource does it, by a ticket", async () => {
  const room = newRoom();
  const Response = globalThis.Response;
  const asked: string[] = [];
  class Watched extends EventSource {
    constructor(url: string) {
      super(url);
      asked.push(url);
    }
  }
  try {
    // As in the environments that lack it: a response that has no body to read.
    Object.assign(globalThis, { Response: class {} });
    const ann = new SSEClient(`http://127.0.0.1:${GATEWAYS()[0]}/sse`, {
      ...options({ room }), EventSource: Watched as unknown as new (url: string) => globalThis.EventSource,
    });
    await withClients([ann], async () => {
      const heard = strokesHeardBy(ann);
      assert.equal((await ann.connect()).userId, "ann");
      await ann.request("canvas.draw", { operations: [operation("a1")] });
      await until(() => heard.length, "the stroke");
    });
    assert.equal(asked.length, 1);
    assert.match(asked[0]!, /[?&]ticket=[^&]+/);
    assert(!asked[0]!.includes(token("ann").slice(0, 30)), "the token itself stays out of addresses");
    const stranger = new SSEClient(`http://127.0.0.1:${GATEWAYS()[0]}/sse`, {
      ...options({ room, token: "nonsense" }), EventSource: Watched as unknown as new (url: string) => globalThis.EventSource,
    });
    assert.equal((await rejection(stranger.connect())).reason, "token_invalid");
  } finally {
    Object.assign(globalThis, { Response });
  }
});

test("no token ever stands in an address", async () => {
  const seen: string[] = [];
  const secret = token("ann");
  const fetchWatched: typeof fetch = (input, init) => {
    seen.push(`${input}`);
    return fetch(input, init);
  };
  for (const form of FORMS) {
    const Socket = options().WebSocket!;
    class Watched extends (Socket as unknown as typeof WebSocket) {
      constructor(url: string, protocols?: string[]) {
        super(url, protocols);
        seen.push(url);
      }
    }
    await withClients([client(form, { token: secret, fetch: fetchWatched, WebSocket: Watched })], async (ann) => {
      await ann.connect();
      await ann.request("canvas.state");
    });
  }
  assert(seen.length > FORMS.length);
  assert(seen.every((each) => !each.includes(secret.slice(0, 20))), seen.join("\n"));
});
