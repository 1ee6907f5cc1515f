// Page layer: what went wrong, and what happened, in words. Pure.

import type { Activity } from "@roundtable/client";

export interface Trouble {
  reason?: string | undefined;
  message?: string;
  retryAfter?: number | undefined;
}

export const REASONS: Record<string, string> = {
  auth_timeout: "This table takes nobody without a token.",
  auth_required: "This table takes nobody without a token.",
  token_invalid: "The token is not good here.",
  token_expired: "Your token's time is over. Ask for a new one.",
  forbidden: "You have no seat in this room.",
  invalid_room: "A room's name has 1 to 64 letters, digits, _ and -.",
  origin_refused: "This page may not connect to the table.",
  revoked: "You have been logged out.",
  bye: "The table has said goodbye.",
};

/** For people: the place in a message is for programmers. */
export function inWords({ reason, message, retryAfter }: Trouble): string {
  if (reason === "rate_limited") return `That was too fast. Wait ${Math.ceil(retryAfter ?? 1)} s.`;
  if (reason === "timeout") return "The table did not answer in time.";
  if (reason === "unavailable" || reason === "overloaded") return "The table is busy. Try again in a moment.";
  return (message ?? reason ?? "Something went wrong.").replace(/ - at `[^`]*`$/, "");
}

/** The one sentence of an activity that is neither talk nor dice. */
export function sentence({ type, data, username }: Activity): string {
  switch (type) {
    case "user_joined":
      return `${username} sat down`;
    case "user_left":
      return `${username} left`;
    case "turn_changed":
      return data.current ? `${data.current}’s turn${data.round ? ` · round ${data.round}` : ""}` : "The fight is over";
    case "map_updated":
      if (data.change === "cleared") return `${username} cleared the map`;
      return data.name ? `${username} named the map: ${data.name}` : `${username} changed the map ${data.mapId}`;
    case "note_edited":
      return `${username} wrote a note`;
    default:
      return `${username}: ${type}`;
  }
}
