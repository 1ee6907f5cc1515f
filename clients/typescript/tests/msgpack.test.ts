// The codec beside the reference implementation: what one writes the other reads, and what is broken is refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { decode as theirUnpack, encode as theirPack } from "@msgpack/msgpack";
import { pack, unpack } from "../src/msgpack.js";

/** Numbers in a row from a seed (mulberry32), so that a failure can be repeated. */
function chance(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Of all widths in UTF-8. Halves of a pair are no letters; a mark of byte order theirs loses at a text's beginning. */
function letter(random: () => number): string {
  const code = Math.floor(random() ** 6 * 0x1f000);
  return String.fromCodePoint((code >= 0xd800 && code < 0xe000) || code === 0xfeff ? 0xe9 : code);
}

function some(random: () => number, depth = 0): unknown {
  const pick = Math.floor(random() * (depth > 4 ? 7 : 9));
  const size = Math.floor(random() ** 4 * 300);
  if (pick === 0) return null;
  if (pick === 1) return random() < 0.5;
  if (pick === 2) return Math.floor((random() - 0.5) * 2 ** (random() * 53));
  if (pick === 3) return (random() - 0.5) * 10 ** (random() * 40 - 20);
  if (pick === 4 || pick === 5) return Array.from({ length: size }, () => letter(random)).join("");
  if (pick === 6) return Uint8Array.from({ length: size }, () => random() * 256);
  if (pick === 7) return Array.from({ length: size / 8 }, () => some(random, depth + 1));
  return Object.fromEntries(Array.from({ length: size / 8 }, (_, number) => [`key ${number}`, some(random, depth + 1)]));
}

test("whatever one of the two packs, the other unpacks", () => {
  const random = chance(20_26);
  for (let round = 0; round < 1_500; round++) {
    const value = some(random);
    assert.deepEqual(theirUnpack(pack(value)), value);
    assert.deepEqual(unpack(theirPack(value)), value);
    assert.deepEqual(unpack(pack(value)), value);
  }
});

test("at every edge of a width both write the same bytes", () => {
  const integers = [7, 8, 15, 16, 31, 32].flatMap((bits) => [2 ** bits - 1, 2 ** bits, -(2 ** bits), -(2 ** bits) - 1]);
  const lengths = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536];
  const values = [
    ...integers, 0, -1, -32, -33, 2 ** 53 - 1, -(2 ** 53) + 1, 1.5, -0, Infinity, -Infinity,
    ...lengths.map((length) => "a".repeat(length)), ...lengths.map((length) => new Uint8Array(length)),
    ...lengths.map((length) => Array(length).fill(1)),
    ...lengths.map((length) => Object.fromEntries(Array.from({ length }, (_, number) => [`${number}`, 1]))),
  ];
  for (const value of values) {
    const ours = pack(value);
    if (!Object.is(value, -0)) assert.deepEqual(Buffer.from(ours), Buffer.from(theirPack(value)));
    assert.deepEqual(unpack(ours), value);
  }
  assert(Number.isNaN(unpack(pack(NaN))));
});

test("a text keeps what looks like a mark of byte order", () => {
  for (const text of ["\ufeffa", `\ufeff${"a".repeat(300)}`]) assert.equal(unpack(pack(text)), text);
});

test("a field that is undefined is left out, as in JSON; an undefined element is null", () => {
  assert.deepEqual(unpack(pack({ a: undefined, b: [undefined] })), { b: [null] });
});

test("a field of any name is only a field", () => {
  const value = JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1}') as object;
  const found = unpack(theirPack(value)) as Record<string, unknown>;
  assert.equal(Object.getPrototypeOf(found), Object.prototype);
  assert.deepEqual(Object.keys(found), Object.keys(value));
  assert.equal((({}) as Record<string, unknown>).polluted, undefined);
});

test("what is cut off, goes on, or is of another type is refused, whatever it is", () => {
  const whole = pack({ texts: ["a", "ä€😀"], number: 1.25, bytes: new Uint8Array(300), deep: [[[]]] });
  for (let length = 0; length < whole.length; length++) assert.throws(() => unpack(whole.subarray(0, length)), RangeError);
  assert.throws(() => unpack(Uint8Array.of(0xc0, 0xc0)), /too long/);
  assert.throws(() => unpack(Uint8Array.of(0xc1)), /0xc1/);
  assert.throws(() => unpack(Uint8Array.of(0xd4, 1, 2)), /0xd4/);
  assert.throws(() => unpack(Uint8Array.of(0x81, 1, 1)), /key/);
  assert.throws(() => unpack(Uint8Array.of(0xa2, 0xc3, 0x28)), /UTF-8/);
  assert.throws(() => unpack(Uint8Array.of(0xdf, 0xff, 0xff, 0xff, 0xff)), RangeError);
  assert.throws(() => unpack(new Uint8Array(100_000).fill(0x91)), /too deep/);
});

test("noise is refused or read, and never anything else", () => {
  const random = chance(7);
  for (let round = 0; round < 20_000; round++) {
    const noise = Uint8Array.from({ length: random() * 40 }, () => random() * 256);
    try {
      unpack(noise);
    } catch (error) {
      assert(error instanceof RangeError, `${error}`);
    }
  }
});

test("what nests too deep to be sent is refused", () => {
  let deep: unknown = 1;
  for (let count = 0; count < 1_000; count++) deep = [deep];
  assert.throws(() => pack(deep), RangeError);
  assert.throws(() => pack({ call: () => 1 }), TypeError);
});
