// Board layer: places and boxes on the map, and the camera that looks at it. Pure: knows no canvas and no page.

export interface Point {
  x: number;
  y: number;
}

export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export const NEAREST = 8;
export const FARTHEST = 0.05;
/** What everybody sees first, in map units. */
export const FIRST_VIEW: Box = { left: 0, top: 0, right: 1600, bottom: 1000 };
/** The side of one square of the grid, in map units. */
export const SQUARE = 50;

export function touches(a: Box, b: Box): boolean {
  return a.left <= b.right && b.left <= a.right && a.top <= b.bottom && b.top <= a.bottom;
}

export function union(a: Box | null, b: Box): Box {
  if (!a) return b;
  return {
    left: Math.min(a.left, b.left),
    top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right),
    bottom: Math.max(a.bottom, b.bottom),
  };
}

/** The box that an operation may paint on: its points and half its width around them. */
export function boxOf({ tool, size, points }: { tool: string; size: number; points: Point[] }): Box {
  const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const { x, y } of points) {
    if (x < box.left) box.left = x;
    if (x > box.right) box.right = x;
    if (y < box.top) box.top = y;
    if (y > box.bottom) box.bottom = y;
  }
  let around = size / 2 + 1;
  const [first, last] = [points[0]!, points[points.length - 1]!];
  if (tool === "circle") {
    around += Math.hypot(last.x - first.x, last.y - first.y);
    box.left = box.right = first.x;
    box.top = box.bottom = first.y;
  }
  return { left: box.left - around, top: box.top - around, right: box.right + around, bottom: box.bottom + around };
}

/** `x`, `y`: the place on the map at the view's top left; `scale`: page pixels in a map unit. */
export class Camera {
  x = 0;
  y = 0;
  scale = 1;
  width = 1;
  height = 1;

  toMap(point: Point): Point {
    return { x: this.x + point.x / this.scale, y: this.y + point.y / this.scale };
  }

  toView(point: Point): Point {
    return { x: (point.x - this.x) * this.scale, y: (point.y - this.y) * this.scale };
  }

  get view(): Box {
    return { left: this.x, top: this.y, right: this.x + this.width / this.scale, bottom: this.y + this.height / this.scale };
  }

  pan(dx: number, dy: number): void {
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
  }

  /** `at` (page pixels) stays where it is. */
  zoom(factor: number, at: Point): void {
    const fixed = this.toMap(at);
    this.scale = Math.min(NEAREST, Math.max(FARTHEST, this.scale * factor));
    this.x = fixed.x - at.x / this.scale;
    this.y = fixed.y - at.y / this.scale;
  }

  centre(point: Point): void {
    this.x = point.x - this.width / this.scale / 2;
    this.y = point.y - this.height / this.scale / 2;
  }

  /** Shows the whole box; `margin` in page pixels: what lies under the tools at the bottom. */
  fit(box: Box, margin = { side: 16, top: 16, bottom: 16 }): void {
    const width = Math.max(1, this.width - 2 * margin.side);
    const height = Math.max(1, this.height - margin.top - margin.bottom);
    const wanted = Math.min(width / (box.right - box.left || 1), height / (box.bottom - box.top || 1));
    this.scale = Math.min(2, Math.max(FARTHEST, wanted));
    this.x = (box.left + box.right) / 2 - (margin.side + width / 2) / this.scale;
    this.y = (box.top + box.bottom) / 2 - (margin.top + height / 2) / this.scale;
  }

  /** Keeps the middle where it is when the view gets another size. */
  resize(width: number, height: number): void {
    const middle = this.toMap({ x: this.width / 2, y: this.height / 2 });
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    this.centre(middle);
  }
}
