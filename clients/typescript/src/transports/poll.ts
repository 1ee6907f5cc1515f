// Transport layer: long poll as a link: each poll's answer is what came since the last one.

import { MEDIA } from "../codec.js";
import { lost, RoundtableError } from "../errors.js";
import type { PollAnswer } from "../generated.js";
import type { Dialing, Link, LinkEvents } from "../link.js";
import { ANSWER_WITHIN, call, eventOf, read, Upstream } from "./http.js";

/** Seconds that the server may keep a poll waiting. */
const PATIENCE = 25;

export function dialPoll(to: Dialing, outer: LinkEvents): Link {
  const abort = new AbortController();
  const { signal } = abort;

  function close(): void {
    abort.abort();
    up.close();
  }

  const on: LinkEvents = {
    reached: () => signal.aborted || outer.reached(),
    received: (message) => signal.aborted || outer.received(message),
    lost(error) {
      if (signal.aborted) return;
      close();
      outer.lost(error);
    },
  };
  const up = new Upstream(to, on);

  async function poll(cursor: string | undefined): Promise<string> {
    const stop = to.clock.after(PATIENCE * 1000 + ANSWER_WITHIN, () => on.lost(lost("A poll was not answered")));
    try {
      const url = to.address.of("poll", { room: to.room, connection: up.connection, cursor, timeout: `${PATIENCE}` });
      const response = await call(to, url, { headers: { Accept: MEDIA[to.format] }, signal }, on);
      const answer = (await read(response, to)) as PollAnswer;
      for (const event of answer.events) {
        if (event.type === "session.welcome") up.connection = event.data.connectionId;
        on.received(eventOf(event));
      }
      return answer.cursor;
    } finally {
      stop();
    }
  }

  async function run(): Promise<void> {
    try {
      for (let { cursor } = to; !signal.aborted; ) cursor = await poll(cursor);
    } catch (error) {
      on.lost(error instanceof RoundtableError ? error : lost("A poll's answer cannot be read"));
    }
  }
  void run();

  return {
    send: (message) => up.send(message),
    close,
    get congested() {
      return up.congested;
    },
  };
}
