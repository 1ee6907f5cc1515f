// Board layer: which operations there are, in drawing order, and which of them are hidden. Knows no canvas and no wire.

import type { StoredOperation } from "@roundtable/client";
import { boxOf, union, type Box } from "./geometry.js";

export interface Mark {
  readonly operation: StoredOperation;
  readonly box: Box;
  hidden: boolean;
  /** Made by the painter at first need. */
  path?: Path2D;
}

export class Scene {
  /** Only grows at its end, until `version` changes. */
  order: Mark[] = [];
  version = 0;
  private marks = new Map<string, Mark>();

  get size(): number {
    return this.marks.size;
  }

  has(id: string): boolean {
    return this.marks.has(id);
  }

  clear(): void {
    this.order = [];
    this.marks.clear();
    this.version += 1;
  }

  add(operations: StoredOperation[]): void {
    for (const operation of operations) {
      if (this.marks.has(operation.id)) continue;
      const mark = { operation, box: boxOf(operation), hidden: false };
      this.marks.set(operation.id, mark);
      this.order.push(mark);
    }
  }

  /** Hides or shows; returns what must be painted again, and whether all of them were known here. */
  turn(ids: string[], hidden: boolean): { box: Box | null; known: boolean } {
    let box: Box | null = null;
    let known = true;
    for (const id of ids) {
      const mark = this.marks.get(id);
      if (!mark) known = false;
      else if (mark.hidden !== hidden) {
        mark.hidden = hidden;
        box = union(box, mark.box);
      }
    }
    return { box, known };
  }

  /** Takes up a fresh look at the whole canvas: its order, and what was hidden from us before we came. */
  merge(operations: StoredOperation[]): void {
    const known = this.marks;
    const later = this.order;
    this.order = [];
    this.marks = new Map();
    this.add(operations);
    const shown = new Set(this.marks.keys());
    for (const mark of later) {
      const { id } = mark.operation;
      if (shown.has(id)) continue;
      this.marks.set(id, mark);
      this.order.push(mark);
    }
    for (const id of shown) {
      const path = known.get(id)?.path;
      if (path) this.marks.get(id)!.path = path;
    }
    this.version += 1;
  }

  bounds(): Box | null {
    let box: Box | null = null;
    for (const mark of this.order) if (!mark.hidden && mark.operation.tool !== "eraser") box = union(box, mark.box);
    return box;
  }

  visible(): Mark[] {
    return this.order.filter((mark) => !mark.hidden);
  }
}
