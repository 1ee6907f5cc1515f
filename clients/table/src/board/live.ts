// Board layer: what moves above the ink: strokes that are being drawn, and where everybody points. Nothing here is kept.

import type { Camera, Point } from "./geometry.js";
import { paintLive, type Look } from "./paint.js";

const PREVIEW_LIFE = 6_000; // a drawer who vanished leaves no ghost
const POINTER_LIFE = 20_000;
const GLIDE_MS = 45; // pointers glide to where they were last seen, so that they do not hop
const SHADOW = "rgba(0, 0, 0, .25)";

interface Stroke extends Look {
  until: number;
}

interface Pointer {
  at: Point;
  to: Point;
  name: string;
  color: string;
  width: number;
  until: number;
}

export class Live {
  /** One's own stroke; on the board before anybody was asked. */
  mine: Look | null = null;
  private strokes = new Map<string, Stroke>();
  private pointers = new Map<string, Pointer>();
  private last = 0;

  clear(): void {
    this.strokes.clear();
    this.pointers.clear();
  }

  /** `points` are those new since the last part. */
  extend(id: string, part: Look): void {
    const stroke: Stroke = this.strokes.get(id) ?? { ...part, points: [], until: 0 };
    stroke.points.push(...part.points);
    stroke.until = Date.now() + PREVIEW_LIFE;
    this.strokes.set(id, stroke);
  }

  /** A finished stroke that waits for the server. */
  keep(id: string, look: Look): void {
    this.strokes.set(id, { ...look, until: Infinity });
  }

  done(id: string): void {
    this.strokes.delete(id);
  }

  point(userId: string, name: string, color: string, to: Point): void {
    const known = this.pointers.get(userId);
    const until = Date.now() + POINTER_LIFE;
    if (!known) this.pointers.set(userId, { at: to, to, name, color, width: 0, until });
    else Object.assign(known, { to, until, ...(known.name === name ? {} : { name, width: 0 }) });
  }

  unpoint(userId: string): void {
    this.pointers.delete(userId);
  }

  pointerOf(userId: string): Point | null {
    return this.pointers.get(userId)?.to ?? null;
  }

  /** True: something still moves. */
  draw(context: CanvasRenderingContext2D, camera: Camera, ratio: number, paper: string, now: number): boolean {
    const zoom = camera.scale * ratio;
    context.setTransform(zoom, 0, 0, zoom, -camera.x * zoom, -camera.y * zoom);
    for (const stroke of alive(this.strokes)) paintLive(context, stroke, paper);
    if (this.mine) paintLive(context, this.mine, paper);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const step = 1 - Math.exp(-Math.min(100, now - this.last) / GLIDE_MS);
    this.last = now;
    let moves = false;
    for (const pointer of alive(this.pointers)) {
      const [dx, dy] = [pointer.to.x - pointer.at.x, pointer.to.y - pointer.at.y];
      const arrived = Math.hypot(dx, dy) * camera.scale < 0.5;
      pointer.at = arrived ? pointer.to : { x: pointer.at.x + dx * step, y: pointer.at.y + dy * step };
      moves ||= !arrived;
      flag(context, pointer, camera);
    }
    return moves;
  }

  get empty(): boolean {
    return this.strokes.size === 0 && this.pointers.size === 0;
  }
}

function* alive<T extends { until: number }>(entries: Map<string, T>): Iterable<T> {
  const now = Date.now();
  for (const [key, entry] of entries) {
    if (entry.until < now) entries.delete(key);
    else yield entry;
  }
}

/** An arrow with a name tag, at the view's edge if its place is out of sight. */
function flag(context: CanvasRenderingContext2D, pointer: Pointer, camera: Camera): void {
  const { x, y } = camera.toView(pointer.at);
  if (x < -200 || y < -40 || x > camera.width + 20 || y > camera.height + 20) return;
  context.font = "600 12px system-ui, sans-serif";
  pointer.width ||= Math.ceil(context.measureText(pointer.name).width) + 12;
  context.fillStyle = pointer.color;
  context.strokeStyle = "#fff";
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x + 4.5, y + 15);
  context.lineTo(x + 7.5, y + 9.5);
  context.lineTo(x + 13.5, y + 8);
  context.closePath();
  context.fill();
  context.stroke();
  const left = Math.min(x + 11, camera.width - pointer.width - 2);
  context.fillStyle = SHADOW;
  context.fillRect(left + 1, y + 15, pointer.width, 18);
  context.fillStyle = pointer.color;
  context.fillRect(left, y + 14, pointer.width, 18);
  context.fillStyle = "#fff";
  context.fillText(pointer.name, left + 6, y + 27);
}
