// Transport layer: server-sent events as a link: by a fetch that is read as it comes, else by a native EventSource.

import { lost, RoundtableError } from "../errors.js";
import { EVENTS, type ErrorMessage, type SSEEvent, type Ticket } from "../generated.js";
import type { Dialing, Link, LinkEvents } from "../link.js";
import { ANSWER_WITHIN, call, eventOf, Upstream } from "./http.js";
import { StreamParser } from "./sse-parser.js";

/** Heartbeats of the server that may be missing until its silence means that it is gone. */
const SILENCE = 2.5;

export function dialSSE(to: Dialing, outer: LinkEvents): Link {
  const abort = new AbortController();
  let open = true;
  let stopSilence = (): void => {};
  let silence = 0;

  function close(): void {
    open = false;
    stopSilence();
    abort.abort();
    up.close();
  }

  const on: LinkEvents = {
    reached: () => open && outer.reached(),
    received: (message) => open && outer.received(message),
    lost(error) {
      if (!open) return;
      close();
      outer.lost(error);
    },
  };
  const up = new Upstream(to, on);

  /** Whatever comes is a sign of life. */
  function heard(): void {
    stopSilence();
    if (silence && open) stopSilence = to.clock.after(silence, () => on.lost(lost("The server went silent")));
  }

  function received(name: string, data: string): void {
    if (name === "error") {
      on.lost(RoundtableError.of((JSON.parse(data) as ErrorMessage).error));
      return;
    }
    const event = JSON.parse(data) as SSEEvent;
    if (event.type === "session.welcome") {
      up.connection = event.data.connectionId;
      silence = event.data.heartbeatInterval * SILENCE;
    }
    heard();
    on.received(eventOf(event));
  }

  const run = to.platform.streams || !to.platform.EventSource ? stream : native;
  run(to, on, abort.signal, received, heard).catch((error: unknown) => {
    on.lost(error instanceof RoundtableError ? error : lost("The event stream cannot be read"));
  });

  return {
    send: (message) => up.send(message),
    close,
    get congested() {
      return up.congested;
    },
  };
}

type Received = (name: string, data: string) => void;

async function stream(to: Dialing, on: LinkEvents, signal: AbortSignal, received: Received, heard: () => void): Promise<void> {
  const url = to.address.of("sse", { room: to.room, cursor: to.cursor });
  const response = await call(to, url, { headers: { Accept: "text/event-stream" }, signal }, on);
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  const parser = new StreamParser();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw lost("The event stream ended");
    heard();
    for (const { name, data } of parser.feed(decoder.decode(value, { stream: true }))) received(name, data);
  }
}

/** It can send no header, so a one-use ticket says who we are; and it would come back with that one by itself. */
async function native(to: Dialing, on: LinkEvents, signal: AbortSignal, received: Received): Promise<void> {
  let ticket: string | undefined;
  if (to.token()) {
    const stop = to.clock.after(ANSWER_WITHIN, () => on.lost(lost("No ticket came in time")));
    try {
      const response = await call(to, to.address.of("auth/ticket"), { body: "", signal }, on);
      ticket = ((await response.json()) as Ticket).ticket;
    } finally {
      stop();
    }
  }
  if (signal.aborted) return;
  const source = new to.platform.EventSource!(to.address.of("sse", { room: to.room, cursor: to.cursor, ticket }));
  signal.addEventListener("abort", () => source.close());
  source.onopen = () => on.reached();
  for (const name of [...EVENTS, "error"]) {
    source.addEventListener(name, (event) => {
      const { data } = event as MessageEvent<string | undefined>;
      try {
        if (data !== undefined) received(name, data);
        else on.lost(lost("The event stream broke"));
      } catch {
        on.lost(lost("The event stream cannot be read"));
      }
    });
  }
}
