// Port: time and chance, so that a test owns both. Knows nothing of clients.

export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** From 0 to below 1. */
  random(): number;
  /** Calls `work` once, that many milliseconds from now. What it returns calls it off. */
  after(milliseconds: number, work: () => void): () => void;
}

/** What a timer can count to; more would be taken for nothing. */
const LONGEST = 0x7fffffff;

export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  after(milliseconds, work) {
    const timer = setTimeout(work, Math.min(milliseconds, LONGEST));
    return () => clearTimeout(timer);
  },
};
