// The published API's own samples, to the letter: they run as they stand, but for the address and a token.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { WSMessage } from "../src/index.js";
import { SSEClient, WebSocketClient } from "../src/index.js";
import { GATEWAYS, newRoom, operation, options, until, withClients } from "./support/table.js";

const WEBSOCKET_SAMPLE = `
const client = new WebSocketClient('ws://localhost:8080', {
  reconnect: true,
  maxReconnectAttempts: 5,
  reconnectDelay: 1000,
  heartbeatInterval: 30000
});

await client.connect();
`;

const SSE_SAMPLE = `
const client = new SSEClient('http://localhost:8080/sse', {
  reconnect: true,
  reconnectDelay: 1000,
  eventFilter: (event) => event.type !== 'heartbeat'
});

await client.connect();
`;

type Runner = (WebSocketClient: unknown, SSEClient: unknown) => Promise<any>;
const AsyncFunction = (async () => {}).constructor as new (...text: string[]) => Runner;

/** Runs a sample; `given` is what its reader has to add: who they are. */
async function run(sample: string, room: string, user: string): Promise<any> {
  const here = sample.replace("localhost:8080", `127.0.0.1:${GATEWAYS()[0]}`);
  assert.notEqual(here, sample);
  const { token, WebSocket } = options({ user });
  const given = { token: token!, WebSocket: WebSocket!, room };
  class WebSocketClientForMe extends WebSocketClient {
    constructor(url: string, sampled: object) {
      super(url, { ...sampled, ...given });
    }
  }
  class SSEClientForMe extends SSEClient {
    constructor(url: string, sampled: object) {
      super(url, { ...sampled, ...given });
    }
  }
  return new AsyncFunction("WebSocketClient", "SSEClient", `${here}; return client;`)(WebSocketClientForMe, SSEClientForMe);
}

test("the samples of the published API connect, and have its methods and events", async () => {
  const room = newRoom();
  const [socket, stream] = [await run(WEBSOCKET_SAMPLE, room, "ann"), await run(SSE_SAMPLE, room, "bob")] as [WebSocketClient, SSEClient];
  await withClients([socket, stream], async () => {
    const told: string[] = [];
    const messages: WSMessage[] = [];
    socket.on("message", (message) => messages.push(message as WSMessage));
    for (const name of ["latency", "heartbeat", "disconnected"] as const) socket.on(name, () => told.push(name));
    const drawn: string[] = [];
    const onDraw = ({ operations }: { operations: { id: string }[] }): void => void drawn.push(...operations.map(({ id }) => id));
    stream.on("draw", onDraw);

    const answer = await socket.request("canvas.draw", { operations: [operation("a1")] }, 5_000);
    assert.deepEqual(answer.operations, ["a1"]);
    await until(() => drawn.length, "the stroke over the other transport");
    stream.off("draw", onDraw);

    socket.send({ type: "request", id: "mine", method: "canvas.undo" });
    await until(() => messages.some(({ type, id }) => type === "response" && id === "mine"), "an answer as a message");
    assert(messages.every(({ timestamp }) => typeof timestamp === "number"));
    await socket.request("canvas.draw", { operations: [operation("a2")] });
    socket.wake(); // the first heartbeat was before anybody listened; the next would be in half a minute
    await until(() => told.includes("latency") && told.includes("heartbeat"), "latency and heartbeat");
    assert.deepEqual(drawn, ["a1"], "a handler that was taken off hears nothing");

    assert.equal(socket.disconnect(), undefined);
    assert.equal(socket.state, "closed");
    assert(told.includes("disconnected"));
  });
});

test("the samples' types are the client's: they compile as they stand", () => {
  const options = { reconnect: true, maxReconnectAttempts: 5, reconnectDelay: 1000, heartbeatInterval: 30000 };
  const client = new WebSocketClient("ws://localhost:8080", options);
  const stream = new SSEClient("http://localhost:8080/sse", {
    reconnect: true,
    reconnectDelay: 1000,
    eventFilter: (event) => event.type !== "heartbeat",
  });
  assert.equal(client.state, "idle");
  assert.equal(stream.state, "idle");
});
