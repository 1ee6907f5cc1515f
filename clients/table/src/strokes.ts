// Wire layer: finished strokes on their way to the server: in order, joined when the pace asks for it, sent again when it
// was too fast, and given back when they are refused.

import type { Drawn } from "./board/board.js";
import { Pace } from "./pace.js";

const OPERATIONS_AT_MOST = 100;
const BYTES_AT_MOST = 48_000; // a message may hold 64 KB

export interface Refused {
  reason: string;
  message: string;
  retryAfter?: number | undefined;
}

export class Strokes {
  private waiting: Drawn[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly pace: Pace,
    private readonly draw: (operations: Drawn[]) => Promise<unknown>,
    private readonly refused: (operations: Drawn[], error: Refused) => void,
  ) {}

  get size(): number {
    return this.waiting.length;
  }

  push(operation: Drawn): void {
    this.waiting.push(operation);
    this.plan(this.pace.patience(Date.now()));
  }

  private plan(delay: number): void {
    if (!delay) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), delay);
  }

  /** All that waits goes out now: before an undo, so that it takes back the last stroke. */
  flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    while (this.waiting.length) void this.send(this.batch());
  }

  private batch(): Drawn[] {
    let bytes = 0;
    let count = 0;
    for (const operation of this.waiting) {
      bytes += JSON.stringify(operation).length;
      if (count && (count === OPERATIONS_AT_MOST || bytes > BYTES_AT_MOST)) break;
      count += 1;
    }
    return this.waiting.splice(0, count);
  }

  private async send(operations: Drawn[]): Promise<void> {
    this.pace.spend(Date.now());
    try {
      await this.draw(operations);
    } catch (error) {
      const refusal = error as Refused;
      if (refusal.reason !== "rate_limited") {
        this.refused(operations, refusal);
        return;
      }
      this.waiting.unshift(...operations);
      this.timer ??= setTimeout(() => this.flush(), Math.max(1, refusal.retryAfter ?? 1) * 1_000);
    }
  }
}
