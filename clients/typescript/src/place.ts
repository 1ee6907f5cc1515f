// Core layer: how far a client has heard, and what it has heard before (CL3). Pure: events in.

import type { EventMessage, Welcome } from "./generated.js";

/** Ids that are remembered to know what comes twice: more than overlap when one transport takes over from another. */
const REMEMBERED = 4_096;
const SNAPSHOTS = 3;

export class Place {
  private readonly seen = new Set<string>();
  /** The cursor of a welcome without recovery: ours only when all snapshots have come. */
  private promised: string | undefined;
  private snapshotsLeft = 0;

  constructor(public cursor: string | undefined) {}

  /** False for what has been heard before. */
  moves({ method, id, data }: EventMessage): boolean {
    if (method === "session.welcome") {
      if (!(data as Welcome).recovered) {
        // Until its snapshots have come, a reconnect must get them again.
        this.seen.clear();
        this.cursor = undefined;
        this.promised = id;
        this.snapshotsLeft = SNAPSHOTS;
      }
      return true;
    }
    if (method.endsWith(".snapshot") && !(data as { more: boolean }).more && (this.snapshotsLeft -= 1) === 0) {
      this.cursor = this.promised;
    }
    if (id === undefined) return true;
    if (this.seen.has(id)) return false;
    this.seen.add(id);
    if (this.seen.size > REMEMBERED) this.seen.delete(this.seen.values().next().value as string);
    this.cursor = id;
    return true;
  }
}
