// The wire: one WebSocket that comes back by itself, requests with answers, events by name. Knows nothing of the page.

const FIRST_DELAY = 1000;
const LONGEST_DELAY = 30000;
const REQUEST_TIMEOUT = 15000;
const FORGOTTEN = 4 * 60000; // the server may no longer know the ids of older requests
const HEARTBEAT = 5000;
const WAITING_AT_MOST = 500;
const STOPS = [
  "bye", "unsupported_data", "token_invalid", "auth_required", "auth_timeout", "forbidden", "invalid_room",
  "origin_refused", "revoked",
];

export function newId(prefix = "") {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return prefix + btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_");
}

/** An error that the server told, or our own (`timeout`, `closed`). */
export class WireError extends Error {
  constructor({ code, reason, message, retryAfter }) {
    super(message || reason);
    Object.assign(this, { code, reason, retryAfter });
  }
}

export class Wire {
  /** `getToken(renew)` gives a token or null; `renew`: the last one is no longer good. */
  constructor(room, getToken) {
    this.room = room;
    this.getToken = getToken;
    this.cursor = "";
    this.latency = null;
    this.handlers = new Map();
    this.pending = new Map(); // id → {message, resolve, reject, timer, since}
    this.attempt = 0;
    this.stopped = false;
    this.open = false;
    this.wake = this.wake.bind(this);
    window.addEventListener("online", this.wake);
    document.addEventListener("visibilitychange", this.wake);
  }

  /** `name` is an event's method, `state` (connecting, open, waiting, closed), `latency` or `refused`. */
  on(name, handler) {
    this.handlers.set(name, [...(this.handlers.get(name) || []), handler]);
    return this;
  }

  emit(name, ...values) {
    for (const handler of this.handlers.get(name) || []) handler(...values);
  }

  async connect(renew = false) {
    clearTimeout(this.retry);
    this.retry = null;
    const serial = (this.serial = (this.serial || 0) + 1);
    this.emit("state", "connecting");
    let token = null;
    try {
      token = await this.getToken(renew);
    } catch (error) {
      if (serial !== this.serial || this.stopped) return;
      if (error.fatal) this.end(error.message);
      else this.again(error.message);
      return;
    }
    if (serial !== this.serial || this.stopped) return;
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("room", this.room);
    if (this.cursor) url.searchParams.set("cursor", this.cursor);
    const protocols = ["roundtable.v1.json", ...(token ? [`bearer.${token}`] : [])];
    const socket = (this.socket = new WebSocket(url.href, protocols));
    socket.onmessage = ({ data }) => this.heard(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.lost(code, reason);
  }

  heard(message) {
    if (message.type === "event") {
      if (message.id) this.cursor = message.id;
      if (message.method === "session.welcome") this.welcomed();
      this.emit(message.method, message.data, message);
      return;
    }
    const asked = message.id && this.pending.get(message.id);
    if (asked) {
      this.settle(message.id);
      if (message.type === "response") asked.resolve(message.data);
      else asked.reject(new WireError(message.error));
    } else if (message.type === "error") {
      this.emit("refused", new WireError(message.error));
    }
  }

  welcomed() {
    this.attempt = 0;
    this.open = true;
    this.emit("state", "open");
    const now = Date.now();
    for (const [id, asked] of this.pending) {
      if (now - asked.since > FORGOTTEN) {
        this.settle(id);
        asked.reject(new WireError({ reason: "timeout", message: "No answer came before the connection was lost." }));
      } else {
        this.socket.send(JSON.stringify(asked.message));
        this.limit(id, asked);
      }
    }
    clearInterval(this.heart);
    this.heart = setInterval(() => this.beat(), HEARTBEAT);
    this.beat();
  }

  /** Measures the way there and back; a connection that no longer answers is given up. */
  async beat() {
    const began = performance.now();
    const socket = this.socket;
    try {
      await this.request("heartbeat");
      this.latency = performance.now() - began;
      this.emit("latency", this.latency);
    } catch (error) {
      if (error.reason === "timeout" && socket === this.socket && this.open) this.lost(1006, "");
    }
  }

  /** Resolves with the answer's data. Sent again with its id after a break, so it takes effect once. */
  request(method, params = {}) {
    const id = newId();
    const message = { type: "request", id, method, params, timestamp: Date.now() };
    return new Promise((resolve, reject) => {
      if (this.stopped || this.pending.size >= WAITING_AT_MOST) {
        reject(new WireError({ reason: "closed", message: "There is no connection." }));
        return;
      }
      const asked = { message, resolve, reject, since: Date.now() };
      this.pending.set(id, asked);
      if (this.open) {
        this.socket.send(JSON.stringify(message));
        this.limit(id, asked);
      }
    });
  }

  /** The time for an answer runs only while there is a connection. */
  limit(id, asked) {
    clearTimeout(asked.timer);
    asked.timer = setTimeout(() => {
      this.pending.delete(id);
      asked.reject(new WireError({ reason: "timeout", message: "The table did not answer in time." }));
    }, REQUEST_TIMEOUT);
  }

  settle(id) {
    clearTimeout(this.pending.get(id).timer);
    this.pending.delete(id);
  }

  /** What nobody answers and nobody misses: dropped while there is no connection. */
  tell(method, params) {
    if (this.open && this.socket.bufferedAmount < 65536) {
      this.socket.send(JSON.stringify({ type: "event", method, params }));
    }
  }

  lost(code, reason) {
    this.drop();
    if (this.stopped) return;
    if (STOPS.includes(reason)) this.end(reason);
    else if (reason === "token_expired") this.connect(true);
    else if (code === 1001) this.again(reason, Math.random() * FIRST_DELAY);
    else this.again(reason || "connection lost");
  }

  /** Full jitter: many clients that lost one server do not all come back at once. */
  again(reason, delay = Math.random() * Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.attempt)) {
    this.attempt += 1;
    this.emit("state", "waiting", reason, delay);
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.connect(), delay);
  }

  wake() {
    if (this.retry && !document.hidden) this.connect();
  }

  drop() {
    this.open = false;
    clearInterval(this.heart);
    for (const asked of this.pending.values()) clearTimeout(asked.timer);
    for (const [id, asked] of this.pending) {
      if (asked.message.method !== "heartbeat") continue;
      this.pending.delete(id);
      asked.reject(new WireError({ reason: "closed", message: "" }));
    }
    if (!this.socket) return;
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  /** For good. `reason` is empty when it is our own wish. */
  end(reason = "") {
    this.stopped = true;
    this.serial += 1;
    clearTimeout(this.retry);
    this.drop();
    window.removeEventListener("online", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
    for (const asked of this.pending.values()) asked.reject(new WireError({ reason: "closed", message: "" }));
    this.pending.clear();
    this.emit("state", "closed", reason);
  }
}
