// CL5: what people get: an ES module and a plain script, small, that need nothing else.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createContext, runInContext } from "node:vm";
import { gzipSync } from "node:zlib";
import { transformSync } from "esbuild";
import * as source from "../src/index.js";
import { TARGETS } from "../../tools/browsers.mjs";
import { newRoom, operation, options, strokesHeardBy, withClients, address } from "./support/table.js";

const dist = (name: string): string => readFileSync(`typescript/dist/${name}`, "utf8");
const CLIENTS = ["WebSocketClient", "SSEClient", "PollingClient", "RealtimeClient"] as const;

test("CL5: both files are below 12 KB when compressed", () => {
  const module = transformSync(dist("index.js"), { minify: true, format: "esm" }).code;
  for (const each of [module, dist("roundtable.min.js")]) {
    const size = gzipSync(each, { level: 9 }).length;
    assert(size < 12_000, `${size} bytes`);
  }
});

test("CL5: nothing is needed at run time", () => {
  const { dependencies, peerDependencies, optionalDependencies } = JSON.parse(readFileSync("typescript/package.json", "utf8"));
  assert.deepEqual([dependencies, peerDependencies, optionalDependencies], [undefined, undefined, undefined]);
  for (const name of ["index.js", "roundtable.min.js"]) assert.doesNotMatch(dist(name), /\bimport\s*[({"'*]|\brequire\s*\(/);
});

test("CL5: the syntax of both files is that of the oldest browsers: there is nothing left to make older", () => {
  for (const name of ["index.js", "roundtable.min.js"]) {
    const asItIs = transformSync(dist(name)).code;
    const older = transformSync(dist(name), { target: TARGETS, supported: { destructuring: true } }).code;
    assert(older === asItIs, name);
  }
});

test("CL5: the plain script gives a page one global, with all that the module has", () => {
  const page = createContext({ setTimeout, clearTimeout, URL, TextEncoder, TextDecoder, AbortController, queueMicrotask });
  runInContext(dist("roundtable.min.js"), page);
  const { Roundtable } = page as { Roundtable: Record<string, unknown> };
  assert.deepEqual(Object.keys(Roundtable).sort(), Object.keys(source).sort());
  const client = runInContext('new Roundtable.RealtimeClient("https://example.org/")', page) as source.RealtimeClient;
  assert.equal(client.state, "idle");
});

test("CL5: the module's clients work at a real table", async () => {
  const built = (await import("../dist/index.js" as string)) as typeof source;
  assert.deepEqual(Object.keys(built).sort(), Object.keys(source).sort());
  for (const name of CLIENTS) {
    const client = new built[name](address(), options({ room: newRoom() }));
    await withClients([client], async () => {
      const heard = strokesHeardBy(client);
      await client.connect();
      await client.request("canvas.draw", { operations: [operation("a1")] });
      await client.request("heartbeat");
      assert.deepEqual((await client.request("canvas.state")).operations.map(({ id }) => id), ["a1"]);
      assert(heard.length <= 1);
    });
  }
});

test("CL5: where there is no WebSocket at all, as in Node.js 20, a RealtimeClient takes the next transport", async () => {
  const { WebSocket: _, ...others } = options({ room: newRoom() });
  const had = globalThis.WebSocket;
  Object.assign(globalThis, { WebSocket: undefined });
  try {
    const client = new source.RealtimeClient(address(), others);
    await withClients([client], async () => assert.equal((await client.connect()).transport, "sse"));
  } finally {
    if (had) Object.assign(globalThis, { WebSocket: had });
  }
});
