// Core layer: the server's addresses, from the one that the application gave. Pure.

export type Door = "ws" | "sse" | "poll" | "rpc" | "auth/ticket";

export class Address {
  private readonly given: URL;
  /** The path before what names a door. */
  private readonly root: string;
  /** An address that names no door is itself one for WebSockets. */
  private readonly plainSocket: boolean;

  /** Throws `TypeError` for what is no address. `base`: what a relative one is relative to. */
  constructor(given: string, base?: string) {
    this.given = new URL(given, base);
    const { protocol, pathname } = this.given;
    const named = /\/(ws|sse|poll)\/?$/.exec(pathname);
    this.root = (named ? pathname.slice(0, named.index) : pathname).replace(/\/$/, "");
    this.plainSocket = !named && protocol.startsWith("ws");
  }

  /** A parameter that is undefined leaves what the given address says of it. */
  of(door: Door, query: Readonly<Record<string, string | undefined>> = {}): string {
    const url = new URL(this.given.href);
    const safe = /^(https|wss):$/.test(url.protocol) ? "s" : "";
    url.protocol = `${door === "ws" ? "ws" : "http"}${safe}:`;
    if (door !== "ws" || !this.plainSocket) url.pathname = `${this.root}/${door}`;
    url.hash = "";
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    return url.href;
  }
}
