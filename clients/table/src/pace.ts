// Wire layer: keeps below the server's limit on messages by joining strokes, so that nobody who draws fast is refused.
// Pure: time comes in as an argument.

/** A token bucket like the server's (LI2): `perMinute` deep and a minute to fill; 0: no limit. */
export class Pace {
  private level: number;
  private at = 0;

  constructor(private readonly perMinute: number) {
    this.level = perMinute;
  }

  /** The part that is left, 0 to 1. */
  left(now: number): number {
    if (!this.perMinute) return 1;
    const grown = this.at ? ((now - this.at) * this.perMinute) / 60_000 : 0;
    this.level = Math.min(this.perMinute, this.level + grown);
    this.at = now;
    return Math.max(0, this.level) / this.perMinute;
  }

  spend(now: number): void {
    this.left(now);
    this.level -= 1;
  }

  /** How long strokes are gathered before they go out as one message: not at all while there is plenty. */
  patience(now: number): number {
    const left = this.left(now);
    return left > 0.5 ? 0 : left > 0.25 ? 800 : 2_000;
  }
}
