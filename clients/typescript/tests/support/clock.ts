// Test layer: a clock that stands still until a test moves it, and chance that a test decides.

import type { Clock } from "../../src/clock.js";

interface Timer {
  at: number;
  work: () => void;
}

export class TestClock implements Clock {
  /** What `random` says; a function may say something else each time. */
  chance: number | (() => number) = 0.5;
  private time = 1_700_000_000_000;
  private timers: Timer[] = [];

  now(): number {
    return this.time;
  }

  random(): number {
    return typeof this.chance === "number" ? this.chance : this.chance();
  }

  after(milliseconds: number, work: () => void): () => void {
    const timer = { at: this.time + milliseconds, work };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((each) => each !== timer);
    };
  }

  /** Milliseconds until each timer that waits, the next one first. */
  get waiting(): number[] {
    return this.timers.map(({ at }) => at - this.time).sort((a, b) => a - b);
  }

  /** Moves on, and lets happen what is due meanwhile, each at its time. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.time + milliseconds;
    await settled();
    for (;;) {
      const due = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.timers = this.timers.filter((each) => each !== due);
      this.time = Math.max(this.time, due.at);
      due.work();
      await settled();
    }
    this.time = end;
  }
}

/** All promises that can go on have gone on. */
export const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
