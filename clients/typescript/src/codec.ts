// Codec layer: messages to bytes and back, in the format of the connection. Pure; knows no transport.

import { RoundtableError } from "./errors.js";
import { pack, unpack } from "./msgpack.js";

export type Format = "json" | "msgpack";

/** What a WebSocket frame or a request's body may be. */
export type Encoded = string | Uint8Array;

export const MEDIA: Readonly<Record<Format, string>> = { json: "application/json", msgpack: "application/msgpack" };

export function encode(value: unknown, format: Format): Encoded {
  return format === "json" ? JSON.stringify(value) : pack(value);
}

export function decode(data: unknown, format: Format): unknown {
  if (format === "json" && typeof data === "string") return JSON.parse(data);
  if (format === "msgpack" && data instanceof ArrayBuffer) return unpack(new Uint8Array(data));
  throw new RangeError(`not ${format}`);
}

export function bytesOf(encoded: Encoded): number {
  return typeof encoded === "string" ? new TextEncoder().encode(encoded).length : encoded.length;
}

/** Throws what the server would answer, without breaking the connection by it (LI1). */
export function checkSize(size: number, limit: number): void {
  if (size > limit) {
    throw new RoundtableError(1009, "too_big", `The message has ${size} bytes; at most ${limit} are allowed`);
  }
}
