// The check of the build itself: an API that an old browser lacks is found, whatever form its use has.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import ts from "typescript";
import { check, checkProject, TARGETS } from "../../tools/browsers.mjs";

const OPTIONS = { target: ts.ScriptTarget.ESNext, lib: ["lib.esnext.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"], strict: true, types: [] };

function found(source: string): string[] {
  const folder = mkdtempSync(join(tmpdir(), "browsers-"));
  try {
    const file = join(folder, "used.ts");
    writeFileSync(file, `export {};\n${source}`);
    return check([file], OPTIONS).complaints.map((each) => each.slice(each.indexOf(": ") + 2));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const [what, source] of [
  ["structuredClone", "structuredClone({});"],
  ["Array.at", "[1].at(-1);"],
  ["ObjectConstructor.hasOwn", "Object.hasOwn({}, 'a');"],
  ["Crypto.randomUUID", "crypto.randomUUID();"],
  ["AbortSignal.timeout", "AbortSignal.timeout(5);"],
  ["CanvasRenderingContext2D.roundRect", "(document.createElement('canvas').getContext('2d'))!.roundRect(0, 0, 1, 1, 1);"],
  ["BroadcastChannel", "new BroadcastChannel('a');"],
  ["a lookbehind", "/(?<=a)b/.test('ab');"],
  ["the rest of a list in a pattern", "const [first, ...others] = [1, 2]; first; others;"],
] as const) {
  test(`CL5: a use of ${what} fails the build`, () => {
    assert.match(found(source).join("\n"), new RegExp(`^${what.replace(/[.]/g, "\\.")} is not for all`, "m"));
  });
}

test("CL5: what is asked for first may be missing", () => {
  assert.deepEqual(found("crypto.randomUUID?.();"), []);
});

test("CL5: what all promised browsers have passes", () => {
  assert.deepEqual(found('const { length } = "a-b".replaceAll("-", "+"); length; new ResizeObserver(() => {}); Promise.any([]);'), []);
});

test("CL5: the client uses nothing that Chrome 90, Firefox 88, Safari 14 or Edge 90 lacks", () => {
  assert.deepEqual([...TARGETS].sort(), ["chrome90", "edge90", "firefox88", "safari14"]);
  const { complaints, used } = checkProject("typescript/tsconfig.json");
  assert.deepEqual(complaints, []);
  assert(used.includes("WebSocket.send") && used.includes("ReadableStream.getReader"));
});
