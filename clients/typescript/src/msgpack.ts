// Codec layer: MessagePack for what JSON can say, and bytes. Pure; knows no messages.

/** Nesting beyond this is refused, both ways: our stack is not what a peer may spend. */
const DEEPEST = 100;

export function pack(value: unknown): Uint8Array {
  let bytes = new Uint8Array(256);
  let view = new DataView(bytes.buffer);
  let size = 0;

  function room(more: number): number {
    const at = size;
    size += more;
    if (size > bytes.length) {
      const grown = new Uint8Array(Math.max(size, bytes.length * 2));
      grown.set(bytes);
      bytes = grown;
      view = new DataView(bytes.buffer);
    }
    return at;
  }

  /** A type byte and a number of 1, 2 or 4 bytes after it. */
  function head(type: number, width: number, number: number): void {
    const at = room(1 + width);
    view.setUint8(at, type);
    if (width === 1) view.setUint8(at + 1, number);
    else if (width === 2) view.setUint16(at + 1, number);
    else if (width === 4) view.setUint32(at + 1, number);
  }

  /** `fix` and the length in one byte if it is below `limit`, else the type of the least width that holds it. */
  function length(count: number, fix: number, limit: number, types: readonly [number, number, number]): void {
    if (count < limit) head(fix | count, 0, 0);
    else if (count < 0x100 && types[0]) head(types[0], 1, count);
    else if (count < 0x10000) head(types[1], 2, count);
    else head(types[2], 4, count);
  }

  function number(value: number): void {
    if (Number.isInteger(value) && value >= -0x80000000 && value <= 0xffffffff && !Object.is(value, -0)) {
      if (value >= 0) {
        if (value < 0x80) head(value, 0, 0);
        else if (value < 0x100) head(0xcc, 1, value);
        else if (value < 0x10000) head(0xcd, 2, value);
        else head(0xce, 4, value);
      } else if (value >= -0x20) head(value & 0xff, 0, 0);
      else if (value >= -0x80) head(0xd0, 1, value);
      else if (value >= -0x8000) head(0xd1, 2, value);
      else head(0xd2, 4, value);
    } else {
      const at = room(9);
      // An integer beyond 32 bits goes as one of 64: the other side may want an integer.
      if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
        view.setUint8(at, value < 0 ? 0xd3 : 0xcf);
        view.setUint32(at + 1, Math.floor(value / 0x100000000));
        view.setUint32(at + 5, value >>> 0);
      } else {
        view.setUint8(at, 0xcb);
        view.setFloat64(at + 1, value);
      }
    }
  }

  function put(value: unknown, depth: number): void {
    if (depth > DEEPEST) throw new RangeError("nested too deep");
    if (value === null || value === undefined) head(0xc0, 0, 0);
    else if (typeof value === "boolean") head(value ? 0xc3 : 0xc2, 0, 0);
    else if (typeof value === "number") number(value);
    else if (typeof value === "string") {
      const text = new TextEncoder().encode(value);
      length(text.length, 0xa0, 32, [0xd9, 0xda, 0xdb]);
      const at = room(text.length);
      bytes.set(text, at);
    } else if (value instanceof Uint8Array) {
      length(value.length, 0, 0, [0xc4, 0xc5, 0xc6]);
      const at = room(value.length);
      bytes.set(value, at);
    } else if (Array.isArray(value)) {
      length(value.length, 0x90, 16, [0, 0xdc, 0xdd]);
      for (const each of value) put(each, depth + 1);
    } else if (typeof value === "object") {
      // As JSON does it: what is undefined is not there.
      const fields = Object.entries(value).filter(([, each]) => each !== undefined);
      length(fields.length, 0x80, 16, [0, 0xde, 0xdf]);
      for (const [name, each] of fields) {
        put(name, depth + 1);
        put(each, depth + 1);
      }
    } else throw new TypeError(`a ${typeof value} cannot be packed`);
  }

  put(value, 0);
  return bytes.slice(0, size);
}

/** Throws `RangeError` for what ends too early, goes on too long, or is no MessagePack that JSON could say. */
export function unpack(bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let at = 0;

  function take(width: number): number {
    const begin = at;
    at += width;
    if (at > bytes.length) throw new RangeError("ends too early");
    return begin;
  }

  function unsigned(width: number): number {
    const begin = take(width);
    if (width === 1) return view.getUint8(begin);
    if (width === 2) return view.getUint16(begin);
    if (width === 4) return view.getUint32(begin);
    return view.getUint32(begin) * 0x100000000 + view.getUint32(begin + 4);
  }

  function signed(width: number): number {
    const begin = take(width);
    if (width === 1) return view.getInt8(begin);
    if (width === 2) return view.getInt16(begin);
    if (width === 4) return view.getInt32(begin);
    return view.getInt32(begin) * 0x100000000 + view.getUint32(begin + 4);
  }

  function text(size: number): string {
    const begin = take(size);
    try {
      return decoder.decode(bytes.subarray(begin, at));
    } catch {
      throw new RangeError("a text is not UTF-8");
    }
  }

  function binary(size: number): Uint8Array {
    const begin = take(size);
    return bytes.slice(begin, at);
  }

  function list(count: number, depth: number): unknown[] {
    const found: unknown[] = [];
    for (let number = 0; number < count; number++) found.push(get(depth + 1));
    return found;
  }

  function map(count: number, depth: number): object {
    const found: Record<string, unknown> = {};
    for (let number = 0; number < count; number++) {
      const name = get(depth + 1);
      if (typeof name !== "string") throw new RangeError("a key is not a text");
      const value = get(depth + 1);
      // A plain assignment of this name would set what the object inherits from.
      if (name === "__proto__") {
        Object.defineProperty(found, name, { value, enumerable: true, configurable: true, writable: true });
      } else found[name] = value;
    }
    return found;
  }

  function get(depth: number): unknown {
    if (depth > DEEPEST) throw new RangeError("nested too deep");
    const type = unsigned(1);
    if (type < 0x80) return type;
    if (type < 0x90) return map(type & 0x0f, depth);
    if (type < 0xa0) return list(type & 0x0f, depth);
    if (type < 0xc0) return text(type & 0x1f);
    if (type >= 0xe0) return type - 0x100;
    switch (type) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return binary(unsigned(1 << (type - 0xc4)));
      case 0xca: return view.getFloat32(take(4));
      case 0xcb: return view.getFloat64(take(8));
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return unsigned(1 << (type - 0xcc));
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: return signed(1 << (type - 0xd0));
      case 0xd9: case 0xda: case 0xdb: return text(unsigned(1 << (type - 0xd9)));
      case 0xdc: case 0xdd: return list(unsigned(2 << (type - 0xdc)), depth);
      case 0xde: case 0xdf: return map(unsigned(2 << (type - 0xde)), depth);
      default: throw new RangeError(`type 0x${type.toString(16)} is not one of JSON's`);
    }
  }

  const value = get(0);
  if (at !== bytes.length) throw new RangeError("goes on too long");
  return value;
}
