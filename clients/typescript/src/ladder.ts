// Core layer: which transport to try next, and when (CL1). Pure: failures in, a decision out; chance is given.

import type { Advice } from "./generated.js";

export interface LadderOptions {
  /** Retries of one transport before the next one. */
  retries: number;
  /** The first pause is up to this; each further one up to twice the last, and no more than `cap`. Milliseconds. */
  base: number;
  cap: number;
  random: () => number;
}

/** Full jitter: many clients that lost one server do not all come back at once. `attempt` counts from 1. */
export function jitter(attempt: number, { base, cap, random }: Omit<LadderOptions, "retries">): number {
  return random() * Math.min(cap, base * 2 ** (attempt - 1));
}

export interface Step {
  /** Milliseconds until the next try. */
  delay: number;
  /** Of the rung that is tried then, from 1; 0: its first try. */
  attempt: number;
}

export class Ladder {
  /** Which rung is used or tried; 0 is the best. */
  rung = 0;
  private attempt = 0;
  private slow = false;
  private readonly proven = new Set<number>();

  constructor(
    private readonly rungs: number,
    private readonly options: LadderOptions,
  ) {}

  /** The server answered over this rung, be it to refuse: the way is good, and another would lead to the same answer. */
  reached(rung: number): void {
    this.proven.add(rung);
  }

  welcomed(rung: number): void {
    this.reached(rung);
    this.rung = rung;
    this.attempt = 0;
    this.slow = false;
  }

  /** From the top, as if nothing had failed. */
  restart(): void {
    this.rung = this.attempt = 0;
    this.slow = false;
  }

  /**
   * What is next after a failure; undefined: no rung is left. From then on a round is one try of each.
   *
   * A way that has never worked gets one try while there is another one: it may be blocked, and people wait.
   */
  failed(advice: Advice, retryAfter?: number): Step | undefined {
    this.attempt += 1;
    const last = this.rung === this.rungs - 1;
    const patience = this.slow || !(last || this.proven.has(this.rung)) ? 0 : this.options.retries;
    if (this.attempt > patience) {
      this.attempt = 0;
      if (last) {
        this.rung = 0;
        this.slow = true;
        return undefined;
      }
      this.rung += 1;
      return { delay: 0, attempt: 0 };
    }
    const { attempt } = this;
    if (advice === "token" && attempt === 1) return { delay: 0, attempt };
    if (advice === "wait" && retryAfter !== undefined) return { delay: retryAfter * 1000, attempt };
    return { delay: jitter(attempt, this.options), attempt };
  }
}
