// Core layer: one connection: its dial, its welcome, what it says then, its end. Time is given; knows no retries.

import type { Clock } from "./clock.js";
import { lost, RoundtableError } from "./errors.js";
import type { EventMessage, ServerMessage } from "./generated.js";
import type { Link, LinkEvents } from "./link.js";

export interface AttemptEvents {
  reached(): void;
  /** At most once, in time. */
  welcomed(attempt: Attempt, message: EventMessage<"session.welcome">): void;
  /** There was no welcome. Then nothing else is told. */
  failed(error: RoundtableError): void;
  /** After the welcome. */
  received(message: ServerMessage): void;
  /** The connection ended after its welcome. */
  broke(error: RoundtableError): void;
}

export class Attempt {
  link: Link | undefined;
  private over = false;
  private welcomed = false;
  private readonly stopTimer: () => void;

  /** `prepare` comes before `dial`; both belong to the `milliseconds` that there are until the welcome. */
  constructor(
    readonly rung: number,
    clock: Clock,
    milliseconds: number,
    prepare: () => Promise<void>,
    dial: (on: LinkEvents) => Link,
    private readonly on: AttemptEvents,
  ) {
    this.stopTimer = clock.after(milliseconds, () => this.lost(lost("No welcome came in time")));
    this.begin(prepare, dial).catch((error: unknown) => this.lost(error instanceof RoundtableError ? error : lost(`${error}`)));
  }

  /** For good and without a word. */
  cancel(): void {
    this.over = true;
    this.stopTimer();
    this.link?.close();
  }

  private async begin(prepare: () => Promise<void>, dial: (on: LinkEvents) => Link): Promise<void> {
    await prepare();
    if (this.over) return;
    this.link = dial({
      reached: () => this.on.reached(),
      received: (message) => this.received(message),
      lost: (error) => this.lost(error),
    });
    if (this.over) this.link.close();
  }

  private received(message: ServerMessage): void {
    if (this.over) return;
    if (this.welcomed) this.on.received(message);
    else if (message.type === "event" && message.method === "session.welcome") {
      this.welcomed = true;
      this.stopTimer();
      this.on.welcomed(this, message);
    }
  }

  private lost(error: RoundtableError): void {
    if (this.over) return;
    this.cancel();
    if (this.welcomed) this.on.broke(error);
    else this.on.failed(error);
  }
}
