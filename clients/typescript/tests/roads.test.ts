// The clients on bad roads to a real table: cut, blocked, hanging, with gateways that go; nothing is lost or doubled.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RealtimeClient } from "../src/index.js";
import { onRoad } from "./support/road.js";
import { address, client, FORMS, GATEWAYS, MORTALS, newRoom, operation, options, STRICT, strokesHeardBy, until, withClients } from "./support/table.js";

for (const form of FORMS) {
  test(`CL2, CL3: ${form}: however often the road is cut, each stroke is stored once and heard once`, async () => {
    const room = newRoom();
    await onRoad(GATEWAYS()[0]!, async (road) => {
      await withClients([client(form, { room }, road.url), client(form, { room, user: "bob" }, road.url), client("websocket json", { room, user: "eve" }, address(1))], async (ann, bob, eve) => {
        const heard = [ann, bob, eve].map(strokesHeardBy);
        await Promise.all([ann.connect(), bob.connect(), eve.connect()]);
        const ids = Array.from({ length: 120 }, (_, number) => `s${number}`);
        const answers: Promise<{ operations: string[] }>[] = [];
        for (const id of ids) {
          answers.push(ann.request("canvas.draw", { operations: [operation(id)] }));
          if (answers.length % 30 === 0) {
            await until(() => heard[2]!.length >= answers.length - 20, "some of them");
            road.target = GATEWAYS()[(answers.length / 30) % 2]!;
            road.cut();
          }
        }
        assert.deepEqual((await Promise.all(answers)).flatMap(({ operations }) => operations), ids);
        await until(() => heard.every(({ length }) => length >= ids.length), "all strokes at all three");
        for (const each of heard) assert.deepEqual(each, heard[2]);
        assert.deepEqual([...heard[2]!].sort(), [...ids].sort());
        const stored = (await eve.request("canvas.state")).operations.map(({ id }) => id);
        assert.deepEqual(stored, heard[2]);
      });
    });
  });
}

test("CL1, CL2, CL3, CL4: from WebSocket to SSE to poll to offline and all the way back, with nothing lost or doubled", async () => {
  const room = newRoom();
  await onRoad(GATEWAYS()[0]!, async (road) => {
    const ann = new RealtimeClient(road.url, { ...options({ room }), maxReconnectAttempts: 2, connectTimeout: 2_000 });
    await withClients([ann, client("websocket json", { room, user: "bob" }, address(1))] as const as [RealtimeClient, RealtimeClient], async (_, bob) => {
      const [heardByAnn, heardByBob] = [strokesHeardBy(ann), strokesHeardBy(bob)];
      const transports: string[] = [];
      ann.on("transport", (transport) => transports.push(transport));
      ann.on("offline", () => transports.push("offline"));
      const answers: Promise<unknown>[] = [];
      let number = 0;
      const bothDraw = (): void => {
        number += 1;
        answers.push(ann.request("canvas.draw", { operations: [operation(`ann-${number}`)] }));
        answers.push(bob.request("canvas.draw", { operations: [operation(`bob-${number}`)] }));
      };
      await bob.connect();
      await ann.connect();
      const drawing = setInterval(bothDraw, 20);
      try {
        await until(() => ann.transport === "websocket", "WebSocket");
        road.block("upgrade");
        await until(() => ann.transport === "sse", "SSE");
        await ann.request("canvas.state");
        road.block("/sse");
        await until(() => ann.transport === "poll", "poll");
        await ann.request("canvas.state");
        road.block("/poll", "/rpc");
        await until(() => ann.state === "offline", "offline");
        bothDraw();
        bothDraw();
        road.open("/poll", "/rpc");
        await until(() => ann.transport === "poll", "poll again");
        await ann.request("canvas.state");
        road.open("/sse");
        await until(() => ann.transport === "sse", "SSE again");
        road.open("upgrade");
        await until(() => ann.transport === "websocket", "WebSocket again");
      } finally {
        clearInterval(drawing);
      }
      await Promise.all(answers);
      await until(() => heardByAnn.length >= answers.length && heardByBob.length >= answers.length, "all strokes at both");
      assert.deepEqual(heardByAnn, heardByBob);
      assert.equal(new Set(heardByAnn).size, answers.length);
      assert.deepEqual(transports, ["websocket", "sse", "poll", "offline", "sse", "websocket"]);
      const ofAnn = heardByAnn.filter((id) => id.startsWith("ann")).map((id) => Number(id.slice(4)));
      assert.deepEqual(ofAnn, [...ofAnn].sort((a, b) => a - b), "what waited went out in order");
    });
  });
});

test("CL1: where only polling gets through from the start, it takes no longer than it must", async () => {
  await onRoad(GATEWAYS()[0]!, async (road) => {
    road.block("upgrade", "/sse");
    const ann = new RealtimeClient(road.url, options({ room: newRoom() }));
    await withClients([ann], async () => {
      assert.equal((await ann.connect()).transport, "poll");
      await ann.request("canvas.state");
    });
  });
});

for (const form of FORMS) {
  test(`CL1: ${form}: a road that hangs without a word is left for another`, async () => {
    await onRoad(GATEWAYS()[0]!, async (road) => {
      const ann = client(form, { room: newRoom(), heartbeatInterval: 200, heartbeatTimeout: 400, connectTimeout: 400 }, road.url);
      await withClients([ann], async () => {
        const told: string[] = [];
        await ann.connect();
        ann.on("disconnected", ({ reason }) => told.push(reason));
        road.hanging = true;
        const asked = ann.request("canvas.state");
        await until(() => ann.state === "reconnecting", "that the silence is noticed");
        road.hanging = false;
        road.cut();
        await until(() => ann.state === "connected", "a new connection");
        assert.deepEqual((await asked).operations, []);
        assert.equal(told[0], "connection_lost");
      });
    });
  });
}

test("CL2: what is too fast for the server is done in the end, in order, and over the same connection", async () => {
  const room = newRoom();
  const hasty = FORMS.map((form) => client(form, { room, user: form.replace(" ", "-") }, `ws://127.0.0.1:${STRICT()}`));
  await withClients(hasty, async () => {
    const told: string[] = [];
    await Promise.all(
      hasty.map(async (each, which) => {
        const heard = strokesHeardBy(each);
        each.on("disconnected", ({ reason }) => told.push(reason));
        await each.connect();
        const ids = Array.from({ length: 124 }, (_, number) => `${which}-${number}`);
        await Promise.all(ids.map((id) => each.request("canvas.draw", { operations: [operation(id)] })));
        const own = (): string[] => heard.filter((id) => id.startsWith(`${which}-`));
        await until(() => own().length === ids.length, "all its own strokes");
        assert.deepEqual(own(), ids);
      }),
    );
    assert.deepEqual(told, []);
  });
});

test("CL1: a gateway that drains sends its clients on, and no error is told", async () => {
  const { port, pid } = MORTALS()[0]!;
  await onRoad(port, async (road) => {
    const room = newRoom();
    const clients = FORMS.filter((form) => !form.startsWith("poll")).map((form) => client(form, { room }, road.url));
    await withClients(clients, async () => {
      const told: string[] = [];
      for (const each of clients) {
        await each.connect();
        each.on("disconnected", ({ reason }) => told.push(reason));
        each.on("error", ({ reason }) => told.push(`error ${reason}`));
      }
      road.target = GATEWAYS()[1]!;
      process.kill(pid, "SIGTERM");
      await until(() => told.length >= clients.length && clients.every(({ state }) => state === "connected"), "all elsewhere");
      for (const each of clients) await each.request("canvas.state");
      assert.deepEqual(told, clients.map(() => "draining"));
    });
  });
});

test("CL2, CL3: a gateway that is killed takes nothing with it", async () => {
  const { port, pid } = MORTALS()[1]!;
  const room = newRoom();
  await onRoad(port, async (road) => {
    const clients = FORMS.map((form) => client(form, { room, user: form.replace(" ", "-") }, road.url));
    await withClients(clients, async () => {
      const heard = clients.map(strokesHeardBy);
      await Promise.all(clients.map((each) => each.connect()));
      const answers = clients.flatMap((each, which) =>
        Array.from({ length: 20 }, (_, number) => each.request("canvas.draw", { operations: [operation(`${which}-${number}`)] })),
      );
      await until(() => heard[0]!.length > 5, "the first strokes");
      process.kill(pid, "SIGKILL");
      road.target = GATEWAYS()[0]!;
      road.cut();
      await Promise.all(answers);
      await until(() => heard.every(({ length }) => length >= answers.length), "all strokes at all");
      for (const each of heard) assert.deepEqual(each, heard[0]);
      assert.equal(new Set(heard[0]).size, answers.length);
    });
  });
});
