// Test layer: the running system that the tests were started with, tokens for it, and strangers who look on.

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import WebSocket from "ws";
import { PollingClient, SSEClient, WebSocketClient } from "../../src/index.js";
import type { ClientOptions } from "../../src/index.js";

/** Milliseconds after which something that should come has not. */
export const WAIT = 20_000;

function given(name: string): string {
  const value = process.env[name];
  assert(value, `${name} is not set: these tests are started by clients/typescript/tests/test_with_node.py`);
  return value;
}

/** Ports of the gateways. */
export const GATEWAYS = (): number[] => given("ROUNDTABLE_TEST_GATEWAYS").split(",").map(Number);

/** Of gateways that the tests may end. */
export const MORTALS = (): { port: number; pid: number }[] =>
  given("ROUNDTABLE_TEST_MORTALS").split(",").map((each) => {
    const [port, pid] = each.split(":").map(Number);
    return { port: port!, pid: pid! };
  });

/** Of a gateway that takes 120 messages a minute of each user. */
export const STRICT = (): number => Number(given("ROUNDTABLE_TEST_STRICT"));

export const address = (gateway = 0): string => `ws://127.0.0.1:${GATEWAYS()[gateway]}`;

/** Seconds for `ttl`. Further claims make a token longer. */
export function token(user: string, { room = "*", role = "player", ttl = 3_600, ...more }: Record<string, any> = {}): string {
  const now = Date.now() / 1000;
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const name = user[0]!.toUpperCase() + user.slice(1);
  const claims = { sub: user, name, room, role, iat: now, exp: now + ttl, ...more };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", given("ROUNDTABLE_TEST_SECRET")).update(text).digest("base64url")}`;
}

export const newRoom = (): string => `room-${randomBytes(6).toString("hex")}`;

type Options = ClientOptions & { user?: string };

const CLIENTS = {
  "websocket json": (url: string, options: Options) => new WebSocketClient(url, options),
  "websocket msgpack": (url: string, options: Options) => new WebSocketClient(url, { ...options, protocol: "msgpack" }),
  sse: (url: string, options: Options) => new SSEClient(url, options),
  "poll json": (url: string, options: Options) => new PollingClient(url, options),
  "poll msgpack": (url: string, options: Options) => new PollingClient(url, { ...options, protocol: "msgpack" }),
};

export type Form = keyof typeof CLIENTS;
export const FORMS = Object.keys(CLIENTS) as Form[];

/** Retries so quick that a test need not wait for them, and as many as it takes; and the WebSocket that Node 20 lacks. */
export function options({ user = "ann", ...more }: Options = {}): ClientOptions {
  return {
    WebSocket: WebSocket as unknown as NonNullable<ClientOptions["WebSocket"]>,
    token: token(user), reconnectDelay: 20, maxReconnectDelay: 200, maxReconnectAttempts: 50, probeInterval: 300, ...more,
  };
}

/** A client of that form, not connected yet. */
export function client(form: Form, more: Options = {}, url = address()): WebSocketClient {
  return CLIENTS[form](url, options(more));
}

/** Resolves when it holds; looks again whenever anything could have happened. */
export async function until(holds: () => unknown, what: string, within = WAIT): Promise<void> {
  const deadline = Date.now() + within;
  while (!holds()) {
    assert(Date.now() < deadline, `within ${within} ms not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export const point = (x: number, y = x) => ({ x, y });

export function operation(id: string) {
  return { type: "draw" as const, tool: "pen" as const, color: "#c33", size: 4, points: [point(0), point(10)], id };
}

/** Ids of all strokes that a client hears of, in order. */
export function strokesHeardBy(hearer: { on: WebSocketClient["on"] }): string[] {
  const heard: string[] = [];
  hearer.on("canvas.draw", ({ operations }) => heard.push(...operations.map(({ id }) => id)));
  return heard;
}

/** Runs with clients that are disconnected in the end, whatever happens. */
export async function withClients<C extends [] | { disconnect(): void }[]>(clients: C, work: (...clients: NoInfer<C>) => Promise<void>): Promise<void> {
  try {
    await work(...clients);
  } finally {
    for (const each of clients) each.disconnect();
  }
}
