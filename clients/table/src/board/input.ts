// Board layer: what hands do: mouse, touch, stylus and keys become strokes, looks and moves of the camera. Knows no ink.

import type { Camera, Point } from "./geometry.js";

export interface Hand {
  /** A stroke begins; `pressure` 0.5 where the device has none; `eraser`: the stylus is turned round. */
  begin(at: Point, how: { pressure: number | null; eraser: boolean }): void;
  extend(points: Point[]): void;
  end(): void;
  cancel(): void;
  hover(at: Point): void;
  moved(): void;
  /** Whether a press draws; else it pans. */
  draws(): boolean;
}

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
};
const STEP = 25; // map units of an arrow key: half a square

export class Input {
  private touches = new Map<number, Point>();
  private drawing: number | null = null;
  private panning: number | null = null;
  private last: Point = { x: 0, y: 0 };
  private space = false;
  private stylus = false;
  /** Where the pen of the keyboard is; null while it is not used. */
  keyPen: Point | null = null;
  private keyDown = false;

  constructor(private readonly element: HTMLElement, private readonly camera: Camera, private readonly hand: Hand) {
    element.addEventListener("pointerdown", (event) => this.down(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    element.addEventListener("pointerup", (event) => this.up(event));
    element.addEventListener("pointercancel", (event) => this.up(event));
    element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("blur", () => this.dropKeyPen());
    window.addEventListener("keyup", (event) => event.key === " " && this.hold(false));
    window.addEventListener("blur", () => this.hold(false));
  }

  /** The space bar makes any press pan. */
  hold(on: boolean): void {
    this.space = on;
    this.element.classList.toggle("grab", on);
  }

  private at(event: { clientX: number; clientY: number }): Point {
    const box = this.element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  private map(event: { clientX: number; clientY: number }): Point {
    const round = (value: number) => Math.round(value * 10) / 10;
    const { x, y } = this.camera.toMap(this.at(event));
    return { x: round(x), y: round(y) };
  }

  private down(event: PointerEvent): void {
    event.preventDefault();
    this.element.focus({ preventScroll: true });
    this.element.setPointerCapture(event.pointerId);
    this.dropKeyPen();
    if (event.pointerType === "pen") this.stylus = true;
    if (event.pointerType === "touch") {
      this.touches.set(event.pointerId, this.at(event));
      if (this.touches.size === 2) {
        this.stop(true);
        return;
      }
      if (this.touches.size > 2) return;
    }
    if (this.drawing !== null || this.panning !== null) return;
    const hasStylus = this.stylus && event.pointerType === "touch"; // then the hand rests or moves the map
    const pans = this.space || event.button === 1 || event.button === 2 || hasStylus || !this.hand.draws();
    if (pans) {
      this.panning = event.pointerId;
      this.last = this.at(event);
      this.element.classList.add("grabbing");
    } else if (event.button === 0 || event.button === 5) {
      this.drawing = event.pointerId;
      const pressure = event.pointerType === "pen" && event.pressure > 0 ? event.pressure : null;
      this.hand.begin(this.map(event), { pressure, eraser: event.button === 5 });
    }
  }

  private move(event: PointerEvent): void {
    if (this.touches.has(event.pointerId)) {
      const before = [...this.touches.values()];
      this.touches.set(event.pointerId, this.at(event));
      if (this.touches.size === 2) {
        this.pinch(before as [Point, Point], [...this.touches.values()] as [Point, Point]);
        return;
      }
    }
    if (this.panning === event.pointerId) {
      const to = this.at(event);
      this.camera.pan(to.x - this.last.x, to.y - this.last.y);
      this.last = to;
      this.hand.moved();
    } else if (this.drawing === event.pointerId) {
      const all = event.getCoalescedEvents?.() ?? [];
      this.hand.extend((all.length ? all : [event]).map((each) => this.map(each)));
    }
    this.hand.hover(this.map(event));
  }

  private pinch([a, b]: [Point, Point], [c, d]: [Point, Point]): void {
    const span = (p: Point, q: Point) => Math.max(10, Math.hypot(p.x - q.x, p.y - q.y));
    const middle = (p: Point, q: Point) => ({ x: (p.x + q.x) / 2, y: (p.y + q.y) / 2 });
    const [from, to] = [middle(a, b), middle(c, d)];
    this.camera.pan(to.x - from.x, to.y - from.y);
    this.camera.zoom(span(c, d) / span(a, b), to);
    this.hand.moved();
  }

  private up(event: PointerEvent): void {
    this.touches.delete(event.pointerId);
    if (this.drawing === event.pointerId) {
      if (event.type === "pointerup") this.hand.extend([this.map(event)]);
      this.stop(event.type !== "pointerup");
    } else if (this.panning === event.pointerId) this.stop(false);
  }

  private stop(cancelled: boolean): void {
    if (this.drawing !== null) {
      if (cancelled) this.hand.cancel();
      else this.hand.end();
    }
    this.drawing = this.panning = null;
    this.element.classList.remove("grabbing");
  }

  /** A wheel zooms at the pointer; two fingers on a pad pan, and with the shift key so does a wheel. */
  private wheel(event: WheelEvent): void {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
    if (event.shiftKey && !dx) this.camera.pan(-dy, 0);
    else if (dx && !event.ctrlKey) this.camera.pan(-dx, -dy);
    else this.camera.zoom(Math.exp(-Math.max(-200, Math.min(200, dy)) * (event.ctrlKey ? 0.01 : 0.0018)), this.at(event));
    this.hand.moved();
  }

  /** Drawing without a pointer: arrows move the pen, Enter puts it down and lifts it, Escape drops the stroke. */
  private key(event: KeyboardEvent): void {
    if (event.key === " ") {
      this.hold(true);
      event.preventDefault();
      return;
    }
    const arrow = ARROWS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow) {
      const step = event.shiftKey ? 4 * STEP : STEP;
      const from = this.keyPen ?? this.camera.toMap({ x: this.camera.width / 2, y: this.camera.height / 2 });
      const snap = (value: number) => Math.round(value / STEP) * STEP;
      this.keyPen = { x: snap(from.x) + arrow[0] * step, y: snap(from.y) + arrow[1] * step };
      if (this.keyDown) this.hand.extend([this.keyPen]);
      this.hand.hover(this.keyPen);
    } else if (event.key === "Enter" && this.keyPen && this.hand.draws()) {
      if (this.keyDown) this.hand.end();
      else this.hand.begin(this.keyPen, { pressure: null, eraser: false });
      this.keyDown = !this.keyDown;
    } else if (event.key === "Escape" && this.keyPen) {
      this.dropKeyPen();
    } else return;
    event.preventDefault();
    event.stopPropagation();
    this.hand.moved();
  }

  private dropKeyPen(): void {
    if (this.keyDown) this.hand.cancel();
    this.keyDown = false;
    if (this.keyPen) {
      this.keyPen = null;
      this.hand.moved();
    }
  }
}
