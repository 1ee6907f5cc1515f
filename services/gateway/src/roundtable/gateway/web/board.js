// The board: what is drawn, what is being drawn, and where everybody points. Knows nothing of the wire or the page.

export const SHEET = { width: 1600, height: 1000 }; // map units that everybody sees; one may draw beyond
const POINTS_AT_MOST = 1500; // fewer than a message may hold
const PREVIEW_LIFE = 6000;
const POINTER_LIFE = 20000;

/** A colour of one's own for each user. */
export function hueOf(userId) {
  let hash = 0;
  for (const char of userId) hash = (hash * 31 + char.charCodeAt(0)) | 0;
  return (hash >>> 0) % 360;
}

export class Board {
  /** `on` has `newId()`, and is told by `preview(part)`, `stroke(operation)` and `pointer(point)` what the user does. */
  constructor(canvas, on) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.ink = document.createElement("canvas");
    this.on = on;
    this.brush = { tool: "pen", color: "#1d2a44", size: 4 };
    this.enabled = false;
    this.forget();
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    new ResizeObserver(() => this.resize()).observe(canvas);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.resize());
    this.resize();
  }

  forget() {
    this.operations = new Map(); // id → {operation, hidden}, in drawing order
    this.previews = new Map(); // user and id → the stroke so far
    this.pointers = new Map();
    this.mine = null;
    this.dirty = true;
    this.schedule();
  }

  // -- what others and the server say

  draw(operations) {
    for (const operation of operations) {
      this.operations.set(operation.id, { operation, hidden: false });
      this.previews.delete(`${operation.userId} ${operation.id}`);
      if (!this.dirty) this.paint(this.ink.getContext("2d"), operation);
    }
    this.schedule();
  }

  hide(ids) {
    for (const id of ids) if (this.operations.has(id)) this.operations.get(id).hidden = true;
    this.dirty = true;
    this.schedule();
  }

  /** False when one of them was hidden before we came: then it must be fetched. */
  show(ids) {
    for (const id of ids) if (this.operations.has(id)) this.operations.get(id).hidden = false;
    this.dirty = true;
    this.schedule();
    return ids.every((id) => this.operations.has(id));
  }

  /** Takes up what a fresh look at the whole canvas shows and we did not know, in its place. */
  merge(operations) {
    const known = this.operations;
    this.operations = new Map(
      operations.map((operation) => [operation.id, known.get(operation.id) || { operation, hidden: false }]),
    );
    for (const [id, entry] of known) if (!this.operations.has(id)) this.operations.set(id, entry);
    this.dirty = true;
    this.schedule();
  }

  preview(part) {
    const key = `${part.userId} ${part.id}`;
    if (this.operations.has(part.id)) return;
    const stroke = this.previews.get(key) || { ...part, points: [] };
    stroke.points.push(...part.points);
    stroke.until = Date.now() + PREVIEW_LIFE;
    this.previews.set(key, stroke);
    this.schedule();
  }

  /** One's own stroke that is done: shown until the server has told it, or refused it. */
  keep(userId, stroke) {
    this.previews.set(`${userId} ${stroke.id}`, { ...stroke, until: Infinity });
  }

  refuse(userId, id) {
    this.previews.delete(`${userId} ${id}`);
    this.schedule();
  }

  point(userId, name, position) {
    this.pointers.set(userId, { ...position, name, color: `hsl(${hueOf(userId)}, 65%, 38%)`, until: Date.now() + POINTER_LIFE });
    this.schedule();
  }

  unpoint(userId) {
    this.pointers.delete(userId);
    this.schedule();
  }

  // -- what the user does

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const round = (value) => Math.round(value * 10) / 10;
    return {
      x: round((event.clientX - box.left - this.left) / this.scale),
      y: round((event.clientY - box.top - this.top) / this.scale),
    };
  }

  down(event) {
    if (!this.enabled || event.button !== 0 || this.mine) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.begin(this.at(event), event.pointerId);
  }

  begin(point, pointer) {
    this.mine = { ...this.brush, id: this.on.newId(), points: [point], told: 0, pointer };
    this.schedule();
  }

  move(event) {
    const events = (event.getCoalescedEvents && event.getCoalescedEvents()) || [];
    for (const each of events.length ? events : [event]) {
      const point = this.at(each);
      if (this.mine && this.mine.pointer === event.pointerId) this.extend(point);
      this.pointed = point;
    }
    this.schedule();
  }

  extend(point) {
    const { points, pointer } = this.mine;
    const last = points[points.length - 1];
    if (Math.hypot(point.x - last.x, point.y - last.y) * this.scale < 1) return;
    points.push(point);
    if (points.length >= POINTS_AT_MOST && !isShape(this.mine)) {
      this.finish();
      this.begin(point, pointer);
    }
  }

  up(event) {
    if (!this.mine || this.mine.pointer !== event.pointerId) return;
    if (event.type === "pointerup") this.extend(this.at(event));
    this.finish();
  }

  finish() {
    const { id, tool, color, size, points } = this.mine;
    const type = { pen: "draw", eraser: "erase" }[tool] || "shape";
    const shown = isShape(this.mine) ? [points[0], points[points.length - 1]] : points;
    this.mine = null;
    if (type !== "shape" || points.length > 1) this.on.stroke({ id, type, tool, color, size, points: shown });
    this.schedule();
  }

  // -- painting

  resize() {
    const box = this.canvas.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.width = this.ink.width = Math.max(1, Math.round(box.width * this.ratio));
    this.canvas.height = this.ink.height = Math.max(1, Math.round(box.height * this.ratio));
    this.scale = Math.max(0.05, Math.min(box.width / SHEET.width, box.height / SHEET.height));
    this.left = (box.width - SHEET.width * this.scale) / 2;
    this.top = (box.height - SHEET.height * this.scale) / 2;
    this.paper = getComputedStyle(this.canvas).getPropertyValue("--paper").trim() || "#fff";
    this.dirty = true;
    this.schedule();
  }

  schedule() {
    if (!this.frame) this.frame = requestAnimationFrame((now) => this.render(now));
  }

  render(now) {
    this.frame = null;
    this.speak(now);
    if (this.dirty) {
      const ink = this.ink.getContext("2d");
      ink.setTransform(1, 0, 0, 1, 0, 0);
      ink.clearRect(0, 0, this.ink.width, this.ink.height);
      this.aim(ink);
      for (const { operation, hidden } of this.operations.values()) if (!hidden) this.paint(ink, operation);
      this.dirty = false;
    }
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.aim(context);
    context.fillStyle = this.paper;
    context.fillRect(0, 0, SHEET.width, SHEET.height);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.ink, 0, 0);
    this.aim(context);
    for (const stroke of this.alive(this.previews)) this.paint(context, stroke, true);
    if (this.mine) this.paint(context, this.mine, true);
    for (const pointer of this.alive(this.pointers)) this.label(context, pointer);
  }

  /** Tells what is new since the last time, at most 60 times a second. */
  speak(now) {
    if (now - (this.spoke || 0) < 16) {
      if (this.mine || this.pointed) this.schedule();
      return;
    }
    this.spoke = now;
    if (this.mine && this.mine.points.length > this.mine.told) {
      const { id, tool, color, size, points, told } = this.mine;
      this.mine.told = points.length;
      this.on.preview({ id, tool, color, size, points: points.slice(told) });
    }
    if (this.pointed) this.on.pointer(this.pointed);
    this.pointed = null;
  }

  alive(entries) {
    const now = Date.now();
    for (const [key, entry] of entries) if (entry.until < now) entries.delete(key);
    if (entries.size && !this.sweep) {
      this.sweep = setTimeout(() => {
        this.sweep = null;
        this.schedule();
      }, 1000);
    }
    return entries.values();
  }

  aim(context) {
    const zoom = this.scale * this.ratio;
    context.setTransform(zoom, 0, 0, zoom, this.left * this.ratio, this.top * this.ratio);
  }

  paint(context, { tool, color, size, points }, live = false) {
    const first = points[0];
    const last = points[points.length - 1];
    context.save();
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = size;
    context.strokeStyle = color;
    if (tool === "eraser") {
      if (live) context.strokeStyle = this.paper;
      else context.globalCompositeOperation = "destination-out";
    }
    context.beginPath();
    if (tool === "rectangle") {
      context.rect(Math.min(first.x, last.x), Math.min(first.y, last.y), Math.abs(last.x - first.x), Math.abs(last.y - first.y));
    } else if (tool === "circle") {
      context.arc(first.x, first.y, Math.hypot(last.x - first.x, last.y - first.y), 0, 2 * Math.PI);
    } else {
      context.moveTo(first.x, first.y);
      for (let i = 1; i < points.length - 1; i += 1) {
        const middle = { x: (points[i].x + points[i + 1].x) / 2, y: (points[i].y + points[i + 1].y) / 2 };
        context.quadraticCurveTo(points[i].x, points[i].y, middle.x, middle.y);
      }
      context.lineTo(last.x, last.y);
    }
    context.stroke();
    context.restore();
  }

  label(context, { name, x, y, color }) {
    const unit = 1 / this.scale; // a pixel of the page
    context.fillStyle = color;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + 4 * unit, y + 13 * unit);
    context.lineTo(x + 11 * unit, y + 9 * unit);
    context.closePath();
    context.fill();
    context.font = `600 ${12 * unit}px system-ui, sans-serif`;
    const width = context.measureText(name).width + 8 * unit;
    const edge = this.canvas.width / this.ratio / this.scale - this.left * unit;
    const left = Math.min(x + 9 * unit, edge - width);
    context.fillRect(left, y + 12 * unit, width, 17 * unit);
    context.fillStyle = "#fff";
    context.fillText(name, left + 4 * unit, y + 24.5 * unit);
  }
}

function isShape({ tool }) {
  return tool === "rectangle" || tool === "circle";
}
