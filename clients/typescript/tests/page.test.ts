// CL1 on a page: what the browser tells of it. Its window and document are real event targets; the rest of them is not needed.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { pageIsHidden, watchPage } from "../src/page.js";
import { client, newRoom, until, withClients } from "./support/table.js";

class TestDocument extends EventTarget {
  hidden = false;

  show(shown: boolean): void {
    this.hidden = !shown;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

const world = globalThis as Record<string, unknown>;
let window: EventTarget;
let document: TestDocument;

beforeEach(() => {
  world.window = window = new EventTarget();
  world.document = document = new TestDocument();
});

afterEach(() => {
  delete world.window;
  delete world.document;
});

function tell(name: string, persisted?: boolean): void {
  window.dispatchEvent(Object.assign(new Event(name), persisted === undefined ? {} : { persisted }));
}

test("CL1: online, offline, shown, seen again: each looks at once; only a page that is kept lets go", () => {
  const told: string[] = [];
  const stop = watchPage({ wake: () => told.push("wake"), suspend: () => told.push("suspend"), hidden: (hidden) => told.push(`hidden ${hidden}`) });
  const after = (what: () => void): string[] => {
    told.length = 0;
    what();
    return [...told];
  };
  assert.deepEqual(after(() => tell("online")), ["wake"]);
  assert.deepEqual(after(() => tell("offline")), ["wake"]);
  assert.deepEqual(after(() => tell("pageshow", true)), ["wake"]);
  assert.deepEqual(after(() => document.show(false)), ["hidden true"]);
  assert(pageIsHidden());
  assert.deepEqual(after(() => document.show(true)), ["hidden false", "wake"]);
  assert.deepEqual(after(() => tell("pagehide", false)), []);
  assert.deepEqual(after(() => tell("pagehide", true)), ["suspend"]);
  stop();
  assert.deepEqual(after(() => ["online", "offline", "pageshow"].forEach((name) => tell(name))), []);
});

test("without a page nothing is watched, and nothing is hidden", () => {
  delete world.window;
  delete world.document;
  const never = (): never => assert.fail("there is no page");
  watchPage({ wake: never, suspend: never, hidden: never })();
  assert.equal(pageIsHidden(), false);
});

test("CL1: a page that is put away and brought back has missed nothing", async () => {
  const room = newRoom();
  await withClients([client("websocket json", { room }), client("sse", { room, user: "bob" })], async (ann, bob) => {
    const heard: unknown[] = [];
    await ann.connect();
    await bob.connect();
    await until(() => ann.cursor, "all of the room as it was");
    ann.on("activity.post", ({ data }) => data.text && heard.push(data.text));
    tell("pagehide", true);
    assert.equal(ann.state, "reconnecting");
    bob.disconnect();
    await bob.connect();
    await bob.request("activity.post", { type: "chat_message", data: { text: "while you were away" } });
    tell("pageshow", true);
    await until(() => heard.length, "what was said meanwhile");
    assert.deepEqual(heard, ["while you were away"]);
  });
});

test("CL1: a hidden page is away, if that is wanted, also after a reconnect; a shown one is there again", async () => {
  const room = newRoom();
  await withClients([client("websocket json", { room, autoAway: true }), client("websocket json", { room, user: "bob" })], async (ann, bob) => {
    let status = "";
    bob.on("presence.update", (data) => data.userId === "ann" && (status = data.status));
    await bob.connect();
    await ann.connect();
    document.show(false);
    await until(() => status === "away", "away");
    document.show(true);
    await until(() => status === "online", "online");
    ann.disconnect();
    document.show(false);
    await ann.connect();
    await until(() => status === "away", "away after it came back hidden");
  });
});

test("CL1: a client that has ended no longer watches its page", async () => {
  const ann = client("websocket json", { room: newRoom() });
  await ann.connect();
  ann.disconnect();
  tell("online");
  tell("pageshow", true);
  document.show(true);
  assert.equal(ann.state, "closed");
});
