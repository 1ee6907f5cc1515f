// Helper layer: at most so often, the latest wins, and the last one always goes. Time is given.

import type { Clock } from "./clock.js";

export class Throttle {
  private earliest = 0;
  private waiting = false;

  /** `interval` in milliseconds, asked each time. */
  constructor(
    private readonly clock: Clock,
    private readonly interval: () => number,
    private readonly work: () => void,
  ) {}

  /** `work` runs now, or as soon as it may again; calls until then are one. */
  run(): void {
    if (this.waiting) return;
    const now = this.clock.now();
    if (now >= this.earliest) this.go();
    else {
      this.waiting = true;
      this.clock.after(this.earliest - now, () => this.go());
    }
  }

  private go(): void {
    this.waiting = false;
    this.earliest = this.clock.now() + this.interval();
    this.work();
  }
}
