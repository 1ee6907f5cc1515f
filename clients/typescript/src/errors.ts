// Face layer: what a request or a connection failed with, and what to do then by the contract's one table.

import { AFTER, CLOSE_ERRORS, type Advice, type CloseReason, type ErrorBody, type ErrorReason } from "./generated.js";

/** Reasons that only a client gives: no answer in time, `disconnect()`, a queue that is full, a connection that broke. */
export type LocalReason = "timeout" | "closed" | "queue_full" | "connection_lost";

export type Reason = ErrorReason | LocalReason;

export class RoundtableError extends Error {
  override readonly name = "RoundtableError";

  constructor(
    /** The number for the kind: that of a close frame too. */
    readonly code: number,
    /** The word for programs. One that this version does not know may come from a newer server. */
    readonly reason: Reason | (string & {}),
    /** For people. */
    message: string,
    /** Seconds to wait. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }

  static of(body: ErrorBody): RoundtableError {
    return new RoundtableError(body.code, body.reason, body.message, body.retryAfter);
  }
}

/** What a client does after it. What no table knows, such as a connection that just broke, is like `internal`. */
export function adviceAfter(error: RoundtableError): Advice {
  return (AFTER as Readonly<Record<string, Advice>>)[error.reason] ?? "backoff";
}

export const lost = (message: string): RoundtableError => new RoundtableError(1006, "connection_lost", message);

/** What a close frame says. One of another's making, such as a proxy, may say no more than a code. */
export function closed(code: number, reason: string): RoundtableError {
  const words = Object.keys(CLOSE_ERRORS) as CloseReason[];
  const known = words.find((each) => each === reason);
  // 1008 is for so many reasons that the code alone says nothing
  const word = known ?? (code === 1008 ? undefined : words.find((each) => CLOSE_ERRORS[each].code === code));
  if (!word) return new RoundtableError(code, reason || "connection_lost", reason || "The connection broke");
  return new RoundtableError(code, word, `The connection was closed: ${CLOSE_ERRORS[word].meaning}`);
}
