// Board layer: the canvas that everybody sees: brings scene, tiles, live ink, camera and hands together, frame by frame.
// Knows no wire: it tells what the user does through `Told`, and is told what happened.

import type { StoredOperation } from "@roundtable/client";
import { Camera, FIRST_VIEW, SQUARE, type Box, type Point } from "./geometry.js";
import { Input } from "./input.js";
import { Live } from "./live.js";
import { paintMark, type Look } from "./paint.js";
import { Scene } from "./scene.js";
import { Tiles } from "./tiles.js";

const POINTS_AT_MOST = 1_500; // fewer than a message may hold; a longer stroke goes on as another one
const FRAME_MS = 7; // what ink may take of a frame
const SPEAK_MS = 15; // 60 Hz, a little early rather than a frame late
const EMPTY_SCALE = 0.5; // on a small screen the first stroke should not be a hair
const PICTURE_AT_MOST = 4_096; // pixels
const FIT_TOP = 24; // what is to be seen whole stays clear of the tools
const FIT_BOTTOM = 130;

export type Tool = "pen" | "eraser" | "rectangle" | "circle";

export interface Brush {
  tool: Tool | "hand";
  color: string;
  size: number;
}

export type Drawn = Omit<StoredOperation, "userId">;

export interface Told {
  newId(): string;
  preview(part: Look & { id: string; tool: Tool }): void;
  pointer(at: Point): void;
  stroke(operation: Drawn): void;
  busy(drawing: boolean): void;
  viewed(): void;
}

interface Mine extends Look {
  id: string;
  tool: Tool;
  /** How many points, and the last of them, the others have been told. */
  told: number;
  last?: Point | undefined;
}

export class Board {
  readonly camera = new Camera();
  readonly scene = new Scene();
  readonly live = new Live();
  brush: Brush = { tool: "pen", color: "#1d2a44", size: 4 };
  enabled = false;
  private readonly tiles = new Tiles(this.scene);
  private readonly ink: CanvasRenderingContext2D;
  private readonly top: CanvasRenderingContext2D;
  private readonly input: Input;
  private ratio = 1;
  private colors = { paper: "#fff", line: "#eee", strong: "#ddd", accent: "#000" };
  private mine: Mine | null = null;
  private pointed: Point | null = null;
  private frame = 0;
  private spoke = 0;
  private inkDirty = true;
  /** Whether the view is somebody's wish; until then it shows everything. */
  private steered = false;
  private sweep = 0;

  constructor(
    private readonly below: HTMLCanvasElement, private readonly above: HTMLCanvasElement, private readonly told: Told,
  ) {
    this.ink = below.getContext("2d", { alpha: false })!;
    this.top = above.getContext("2d")!;
    this.input = new Input(above, this.camera, {
      begin: (at, { pressure, eraser }) => this.begin(at, pressure, eraser),
      extend: (points) => this.extend(points),
      end: () => this.end(),
      cancel: () => this.cancel(),
      hover: (at) => {
        this.pointed = at;
        this.schedule();
      },
      moved: () => {
        this.steered = true;
        this.look();
      },
      draws: () => this.enabled && this.brush.tool !== "hand",
    });
    new ResizeObserver(() => this.resize()).observe(above);
    this.resize();
  }

  // -- what others and the server say

  /** Another table: nothing of this one is left. */
  forget(): void {
    this.scene.clear();
    this.live.clear();
    this.steered = false;
    this.look();
  }

  /** `first`: the first page of a fresh look at everything. */
  snapshot(operations: StoredOperation[], first: boolean): void {
    if (first) {
      this.scene.clear();
      this.live.clear();
    }
    this.scene.add(operations);
    if (!this.steered) this.fit();
    this.look();
  }

  draw(operations: StoredOperation[]): void {
    this.scene.add(operations);
    for (const { id } of operations) this.live.done(id);
    this.look();
  }

  hide(ids: string[]): void {
    this.tiles.stale(this.scene.turn(ids, true).box);
    this.look();
  }

  /** False when one of them was hidden before we came: then it must be fetched. */
  show(ids: string[]): boolean {
    const { box, known } = this.scene.turn(ids, false);
    this.tiles.stale(box);
    this.look();
    return known;
  }

  merge(operations: StoredOperation[]): void {
    this.scene.merge(operations);
    this.look();
  }

  preview(part: Look & { id: string; userId: string }): void {
    if (this.scene.has(part.id)) return;
    this.live.extend(part.id, part);
    this.schedule();
  }

  refuse(id: string): void {
    this.live.done(id);
    this.schedule();
  }

  point(userId: string, name: string, color: string, at: Point): void {
    this.live.point(userId, name, color, at);
    this.schedule();
  }

  unpoint(userId: string): void {
    this.live.unpoint(userId);
    this.schedule();
  }

  // -- looking

  fit(): void {
    const bounds = this.scene.bounds();
    const side = Math.min(80, this.camera.width / 12);
    this.camera.fit(bounds ?? FIRST_VIEW, { side, top: FIT_TOP, bottom: FIT_BOTTOM });
    if (!bounds && this.camera.scale < EMPTY_SCALE) {
      this.camera.zoom(EMPTY_SCALE / this.camera.scale, { x: this.camera.width / 2, y: this.camera.height / 2 });
    }
    this.look();
  }

  zoom(factor: number): void {
    this.steered = true;
    this.camera.zoom(factor, { x: this.camera.width / 2, y: this.camera.height / 2 });
    this.look();
  }

  centre(at: Point): void {
    this.steered = true;
    this.camera.centre(at);
    this.look();
  }

  /** Takes up the theme's colours, the element's size and the screen's density. */
  resize(): void {
    const { width, height } = this.above.getBoundingClientRect();
    if (!width || !height) return;
    const style = getComputedStyle(this.above);
    const color = (name: string) => style.getPropertyValue(name).trim();
    this.colors = { paper: color("--paper"), line: color("--grid"), strong: color("--grid-strong"), accent: color("--accent") };
    this.ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.below, this.above]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    this.camera.resize(width, height);
    if (!this.steered) this.fit();
    this.look();
  }

  /** Everything that is drawn, as a picture. */
  picture(): Promise<Blob | null> {
    const box: Box = this.scene.bounds() ?? FIRST_VIEW;
    const [width, height] = [box.right - box.left + SQUARE, box.bottom - box.top + SQUARE];
    const scale = Math.min(2, PICTURE_AT_MOST / Math.max(width, height));
    const ink = sheet(width * scale, height * scale);
    ink.setTransform(scale, 0, 0, scale, (SQUARE / 2 - box.left) * scale, (SQUARE / 2 - box.top) * scale);
    for (const mark of this.scene.visible()) paintMark(ink, mark);
    const whole = sheet(width * scale, height * scale);
    whole.fillStyle = this.colors.paper;
    whole.fillRect(0, 0, whole.canvas.width, whole.canvas.height);
    whole.drawImage(ink.canvas, 0, 0);
    return new Promise((resolve) => whole.canvas.toBlob(resolve, "image/png"));
  }

  // -- what the user does

  private begin(at: Point, pressure: number | null, eraser: boolean): void {
    this.steered = true;
    const { color, size } = this.brush;
    const tool = eraser ? "eraser" : (this.brush.tool as Tool);
    const width = (tool === "eraser" ? size * 4 : size) * (pressure === null ? 1 : 0.5 + pressure);
    this.mine = { id: this.told.newId(), tool, color, size: Math.round(width * 10) / 10, points: [at], told: 0 };
    this.live.mine = this.mine;
    this.told.busy(true);
    this.schedule();
  }

  private extend(points: Point[]): void {
    for (const point of points) {
      const mine = this.mine;
      if (!mine) return;
      const last = mine.points[mine.points.length - 1]!;
      if (Math.hypot(point.x - last.x, point.y - last.y) * this.camera.scale < 1) continue;
      if (isShape(mine.tool)) mine.points = [mine.points[0]!, point];
      else mine.points.push(point);
      if (mine.points.length >= POINTS_AT_MOST) {
        this.end();
        this.mine = { ...mine, id: this.told.newId(), points: [point], told: 0, last: undefined };
        this.live.mine = this.mine;
      }
    }
    this.schedule();
  }

  private end(): void {
    const mine = this.mine;
    if (!mine) return;
    this.mine = this.live.mine = null;
    this.told.busy(false);
    const { id, tool, color, size, points } = mine;
    const type = tool === "pen" ? "draw" : tool === "eraser" ? "erase" : "shape";
    if (type !== "shape" || points.length > 1) {
      this.live.keep(id, mine);
      this.told.stroke({ id, type, tool, color, size, points });
    }
    this.schedule();
  }

  private cancel(): void {
    this.mine = this.live.mine = null;
    this.told.busy(false);
    this.schedule();
  }

  // -- painting

  /** The ink must be shown again. */
  private look(): void {
    this.inkDirty = true;
    this.schedule();
  }

  private schedule(): void {
    this.frame ||= requestAnimationFrame((now) => this.render(now));
  }

  private render(now: number): void {
    this.frame = 0;
    this.speak(now);
    if (this.inkDirty) {
      this.told.viewed();
      this.paper();
      this.inkDirty = !this.tiles.draw(this.ink, this.camera, this.ratio, performance.now() + FRAME_MS);
    }
    const { top, camera, ratio } = this;
    top.setTransform(1, 0, 0, 1, 0, 0);
    top.clearRect(0, 0, this.above.width, this.above.height);
    const moves = this.live.draw(top, camera, ratio, this.colors.paper, now);
    this.aim();
    if (this.inkDirty || moves) this.schedule();
    else if (!this.live.empty) this.sweepLater();
  }

  /** Tells what is new, as often as the server tells it on. */
  private speak(now: number): void {
    if (now - this.spoke < SPEAK_MS) {
      if (this.mine || this.pointed) this.schedule();
      return;
    }
    this.spoke = now;
    const mine = this.mine;
    const last = mine?.points[mine.points.length - 1];
    if (mine && last !== mine.last) {
      const { id, tool, color, size, points, told } = mine;
      this.told.preview({ id, tool, color, size, points: isShape(tool) && told ? [last!] : points.slice(told) });
      mine.told = points.length;
      mine.last = last;
    }
    if (this.pointed) this.told.pointer(this.pointed);
    this.pointed = null;
  }

  /** Paper with squares; the small ones only where they are wide enough to be of use. */
  private paper(): void {
    const { ink, camera, ratio } = this;
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.fillStyle = this.colors.paper;
    ink.fillRect(0, 0, this.below.width, this.below.height);
    const zoom = camera.scale * ratio;
    for (const [every, color] of [[SQUARE, this.colors.line], [5 * SQUARE, this.colors.strong]] as const) {
      if (every * camera.scale < 14) continue;
      ink.fillStyle = color;
      const { left, top, right, bottom } = camera.view;
      const width = Math.max(1, Math.round(ratio));
      for (let x = Math.ceil(left / every) * every; x <= right; x += every) {
        ink.fillRect(Math.round((x - camera.x) * zoom), 0, width, this.below.height);
      }
      for (let y = Math.ceil(top / every) * every; y <= bottom; y += every) {
        ink.fillRect(0, Math.round((y - camera.y) * zoom), this.below.width, width);
      }
    }
  }

  /** The pen of those who draw by keyboard. */
  private aim(): void {
    const at = this.input.keyPen;
    if (!at) return;
    const { x, y } = this.camera.toView(at);
    const { top } = this;
    top.strokeStyle = this.colors.accent;
    top.lineWidth = 2;
    top.beginPath();
    top.moveTo(x - 12, y);
    top.lineTo(x + 12, y);
    top.moveTo(x, y - 12);
    top.lineTo(x, y + 12);
    top.stroke();
  }

  /** Looks again for what has grown too old to be shown. */
  private sweepLater(): void {
    this.sweep ||= window.setTimeout(() => {
      this.sweep = 0;
      this.schedule();
    }, 1_000);
  }
}

function isShape(tool: string): boolean {
  return tool === "rectangle" || tool === "circle";
}

function sheet(width: number, height: number): CanvasRenderingContext2D {
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width);
  canvas.height = Math.ceil(height);
  return canvas.getContext("2d")!;
}

