// Board layer: the committed ink as square bitmaps. A stroke paints only on the tiles that it touches, an undo repaints only
// those, and panning paints only what comes into view; all of it within a few milliseconds a frame. Knows no page.

import { touches, type Box, type Camera } from "./geometry.js";
import { paintMark } from "./paint.js";
import type { Scene } from "./scene.js";

const SIDE = 512; // device pixels
const SETTLES_MS = 120; // a zoom that goes on shows the old bitmaps stretched
const KEPT = 40; // tiles out of sight that are worth their megabyte each

interface Sheet {
  canvas: HTMLCanvasElement;
  context: CanvasRenderingContext2D;
  /** How many of the scene's marks have been looked at. */
  next: number;
}

interface Tile {
  column: number;
  row: number;
  box: Box;
  shown: Sheet;
  /** Takes the place of `shown` when it is complete, so that nothing flickers. */
  fresh: Sheet | null;
}

/** All tiles of one scale (device pixels in a map unit). */
class Grid {
  readonly tiles = new Map<string, Tile>();

  constructor(readonly scale: number) {}

  at(column: number, row: number): Tile {
    const key = `${column} ${row}`;
    let tile = this.tiles.get(key);
    if (tile) this.tiles.delete(key); // to the end: the first one has been out of sight for longest
    else {
      const side = SIDE / this.scale;
      const box = { left: column * side, top: row * side, right: (column + 1) * side, bottom: (row + 1) * side };
      tile = { column, row, box, shown: this.sheet(column, row), fresh: null };
    }
    this.tiles.set(key, tile);
    return tile;
  }

  sheet(column: number, row: number): Sheet {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    const context = canvas.getContext("2d")!;
    context.setTransform(this.scale, 0, 0, this.scale, -column * SIDE, -row * SIDE);
    return { canvas, context, next: 0 };
  }

  /** Forgets those longest out of sight. */
  trim(visible: number): void {
    for (const key of this.tiles.keys()) {
      if (this.tiles.size <= visible + KEPT) return;
      this.tiles.delete(key);
    }
  }
}

export class Tiles {
  private grid = new Grid(1);
  /** Of the scale before, shown until the new ones are complete. */
  private prior: Grid | null = null;
  private version = -1;
  private wanted = 0;
  private since = 0;

  constructor(private readonly scene: Scene) {}

  /** These must be painted again: something in the box was hidden or shown. */
  stale(box: Box | null): void {
    if (!box) return;
    this.prior = null;
    for (const tile of this.grid.tiles.values()) {
      if (!touches(tile.box, box)) continue;
      if (tile.shown.next === 0) continue;
      tile.fresh = this.grid.sheet(tile.column, tile.row);
    }
  }

  /** Draws what is in view onto a context in device pixels. False: there is more to paint, come again next frame. */
  draw(context: CanvasRenderingContext2D, camera: Camera, ratio: number, deadline: number): boolean {
    if (this.version !== this.scene.version) {
      this.version = this.scene.version;
      this.prior = this.scene.size ? this.grid : null;
      this.grid = new Grid(this.grid.scale);
    }
    const settled = this.settle(camera.scale * ratio, performance.now());
    const tiles = settled ? this.inView(camera) : [...this.grid.tiles.values()];
    let complete = true;
    for (const tile of tiles) complete = this.advance(tile, deadline) && complete;
    if (complete) this.prior = null;
    this.blit(context, this.prior ?? this.grid, camera, ratio);
    if (settled) this.grid.trim(tiles.length);
    return complete && settled;
  }

  private settle(scale: number, now: number): boolean {
    if (scale === this.grid.scale) return true;
    const fresh = this.grid.tiles.size === 0;
    if (scale !== this.wanted) {
      this.wanted = scale;
      this.since = now;
    }
    if (!fresh && now - this.since < SETTLES_MS) return false;
    this.prior = fresh ? null : this.grid;
    this.grid = new Grid(scale);
    return true;
  }

  private inView(camera: Camera): Tile[] {
    const side = SIDE / this.grid.scale;
    const { left, top, right, bottom } = camera.view;
    const found: Tile[] = [];
    for (let row = Math.floor(top / side); row * side <= bottom; row += 1) {
      for (let column = Math.floor(left / side); column * side <= right; column += 1) {
        found.push(this.grid.at(column, row));
      }
    }
    return found;
  }

  /** Paints on until the tile is up to date or the time is over. */
  private advance(tile: Tile, deadline: number): boolean {
    const sheet = tile.fresh ?? tile.shown;
    const { order } = this.scene;
    while (sheet.next < order.length) {
      const mark = order[sheet.next]!;
      sheet.next += 1;
      if (mark.hidden || !touches(mark.box, tile.box)) continue;
      paintMark(sheet.context, mark);
      if (performance.now() > deadline) break;
    }
    if (sheet.next < order.length) return false;
    tile.shown = sheet;
    tile.fresh = null;
    return true;
  }

  private blit(context: CanvasRenderingContext2D, grid: Grid, camera: Camera, ratio: number): void {
    const stretch = (camera.scale * ratio) / grid.scale;
    const left = camera.x * camera.scale * ratio;
    const top = camera.y * camera.scale * ratio;
    const place = (index: number, origin: number) => Math.round(index * SIDE * stretch - origin);
    const { view } = camera;
    for (const { column, row, box, shown } of grid.tiles.values()) {
      if (shown.next === 0 || !touches(box, view)) continue;
      const [x, y] = [place(column, left), place(row, top)];
      context.drawImage(shown.canvas, x, y, place(column + 1, left) - x, place(row + 1, top) - y);
    }
  }
}
