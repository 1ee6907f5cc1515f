// Wire layer: who takes a seat where, and the token for it. A token comes from the link's fragment, from the form, or in
// development from the server; it is never kept, and never in a query, which logs would keep.

import { newId } from "./ids.js";

const RENEW_MS = 60_000; // or a third of its life before its end, as the server tells it
const ROOM = /^[A-Za-z0-9_-]{1,64}$/;

export interface Seat {
  name: string;
  room: string;
  role: string;
  token: string;
  refreshToken: string;
}

interface Tokens {
  token: string;
  refreshToken: string;
  expiresAt: number;
}

/** No token can be had any more: the text says why, in words. */
export class NoSeat extends Error {}

export function isRoom(name: string): boolean {
  return ROOM.test(name);
}

/** What the link says: `/?room=…&role=…&name=…#token=…&refresh=…`. The fragment is wiped from the address. */
export function invited(address: Location): Partial<Seat> {
  const query = new URLSearchParams(address.search);
  const secret = new URLSearchParams(address.hash.slice(1));
  if (secret.has("token")) history.replaceState(null, "", address.pathname + address.search);
  const found: Partial<Seat> = {};
  const take = (key: keyof Seat, value: string | null) => value && (found[key] = value);
  take("room", query.get("room"));
  take("role", query.get("role"));
  take("name", query.get("name"));
  take("token", secret.get("token"));
  take("refreshToken", secret.get("refresh"));
  return found;
}

export function linkTo(room: string): string {
  return `${location.origin}/?room=${encodeURIComponent(room)}`;
}

/** The same name in this browser is the same user: undo and colour outlive the tab. */
function userIdOf(name: string): string {
  const key = `roundtable.user.${name}`;
  const known = remembered(key);
  if (known) return known;
  const made = newId("u-");
  remember(key, made);
  return made;
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // storage may be switched off: then nothing is remembered
  }
}

export function remembered(key: string): string {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** Gives the token that is good now: asked before each connect, and when one is about to expire. */
export function tokenSource(seat: Seat): () => Promise<string> {
  let tokens: Tokens | null = null;
  let renewAt = 0;

  function took(fresh: Tokens): string {
    tokens = fresh;
    const life = fresh.expiresAt - Date.now();
    renewAt = fresh.expiresAt - Math.min(RENEW_MS, life / 3) - 500;
    return fresh.token;
  }

  async function renewed(refreshToken: string): Promise<string | null> {
    const answer = await post("/auth/refresh", { refreshToken });
    if (answer.status === 429 || answer.status >= 500) throw new Error("The table gives no token now.");
    return answer.ok ? took((await answer.json()) as Tokens) : null;
  }

  async function given(): Promise<string> {
    const expires = expiryOf(seat.token);
    if (!tokens && (expires === null || expires > Date.now())) {
      if (!seat.refreshToken || expires === null || expires - RENEW_MS > Date.now()) return seat.token;
    }
    const refreshToken = tokens?.refreshToken ?? seat.refreshToken;
    const token = refreshToken ? await renewed(refreshToken) : null;
    if (token) return token;
    throw new NoSeat("Your token's time is over. Ask for a new one.");
  }

  async function issued(): Promise<string> {
    if (tokens) {
      const token = await renewed(tokens.refreshToken);
      if (token) return token;
    }
    const { name, room, role } = seat;
    const answer = await post("/auth/token", { userId: userIdOf(name), username: name, room, role });
    if (answer.status === 404) throw new NoSeat("This table takes nobody without a token.");
    if (answer.ok) return took((await answer.json()) as Tokens);
    const { error } = (await answer.json()) as { error: { message: string } };
    if (answer.status === 429 || answer.status >= 500) throw new Error(error.message);
    throw new NoSeat(error.message);
  }

  return async () => {
    if (tokens && Date.now() < renewAt) return tokens.token;
    return seat.token ? given() : issued();
  };
}

function post(path: string, body: unknown): Promise<Response> {
  return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/** Milliseconds; null when the token does not say. Only to know when to ask for another: the server judges. */
function expiryOf(token: string): number | null {
  try {
    const claims = JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))) as { exp?: unknown };
    return typeof claims.exp === "number" ? claims.exp * 1_000 : null;
  } catch {
    return null;
  }
}
