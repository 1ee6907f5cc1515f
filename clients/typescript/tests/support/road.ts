// Test layer: a road to a gateway that can be blocked, cut, or left to hang: a TCP proxy, as bad networks are.

import { createServer, connect as dial, type AddressInfo, type Server, type Socket } from "node:net";

export class Road {
  /** The gateway's port. */
  target: number;
  /** Requests that begin so, and handshakes for WebSockets by `upgrade`, are broken off. */
  private readonly blocked = new Set<string>();
  /** Nobody is let in. */
  closed = false;
  /** What comes is taken, and goes nowhere. */
  hanging = false;
  /** How many came. */
  travellers = 0;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  private constructor(target: number) {
    this.target = target;
    this.server = createServer((socket) => this.accept(socket));
  }

  static async to(target: number): Promise<Road> {
    const road = new Road(target);
    await new Promise<void>((resolve) => road.server.listen(0, "127.0.0.1", resolve));
    return road;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** All at once, and without a word. */
  cut(): void {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  /** `upgrade`, or the beginning of a request's target such as `/sse`. What is under way is cut. */
  block(...what: string[]): void {
    for (const each of what) this.blocked.add(each);
    this.cut();
  }

  open(...what: string[]): void {
    for (const each of what) this.blocked.delete(each);
  }

  async end(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private accept(socket: Socket): void {
    this.travellers += 1;
    if (this.closed) {
      socket.resetAndDestroy();
      return;
    }
    const onward = dial(this.target, "127.0.0.1");
    const pair = [socket, onward];
    for (const each of pair) {
      this.sockets.add(each);
      each.on("error", () => {});
      each.on("close", () => {
        this.sockets.delete(each);
        for (const other of pair) other.destroy();
      });
    }
    socket.on("data", (data) => {
      if (this.forbids(data)) socket.resetAndDestroy();
      else if (!this.hanging) onward.write(data);
    });
    onward.on("data", (data) => {
      if (!this.hanging) socket.write(data);
    });
  }

  private forbids(data: Buffer): boolean {
    const head = data.toString("latin1", 0, 2_000);
    const target = /^(?:GET|POST) (\S+) HTTP/.exec(head)?.[1];
    if (target === undefined) return false;
    const upgrade = /^upgrade: *websocket/im.test(head);
    return [...this.blocked].some((each) => (each === "upgrade" ? upgrade : !upgrade && target.startsWith(each)));
  }
}

export async function onRoad(target: number, work: (road: Road) => Promise<void>): Promise<void> {
  const road = await Road.to(target);
  try {
    await work(road);
  } finally {
    await road.end();
  }
}
