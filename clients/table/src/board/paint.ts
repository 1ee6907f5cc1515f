// Board layer: how one operation looks. Knows neither which there are nor where they are shown.

import type { Mark } from "./scene.js";
import type { Point } from "./geometry.js";

export interface Look {
  tool: string;
  color: string;
  size: number;
  points: Point[];
}

/** A line through the middles of its pieces, bent at its points: smooth, and the same however many points arrive at once. */
export function trace({ tool, points }: Look): Path2D {
  const path = new Path2D();
  const first = points[0]!;
  const last = points[points.length - 1]!;
  if (tool === "rectangle") {
    const [width, height] = [last.x - first.x, last.y - first.y];
    path.rect(Math.min(first.x, last.x), Math.min(first.y, last.y), Math.abs(width), Math.abs(height));
  } else if (tool === "circle") {
    path.arc(first.x, first.y, Math.hypot(last.x - first.x, last.y - first.y), 0, 2 * Math.PI);
  } else {
    path.moveTo(first.x, first.y);
    for (let i = 1; i < points.length - 1; i += 1) {
      const [a, b] = [points[i]!, points[i + 1]!];
      path.quadraticCurveTo(a.x, a.y, (a.x + b.x) / 2, (a.y + b.y) / 2);
    }
    path.lineTo(last.x + (points.length === 1 ? 0.01 : 0), last.y); // a line of no length would leave no dot in some browsers
  }
  return path;
}

export function paintMark(context: CanvasRenderingContext2D, mark: Mark): void {
  mark.path ??= trace(mark.operation);
  const { tool, color, size } = mark.operation;
  const erases = tool === "eraser";
  if (erases) context.globalCompositeOperation = "destination-out";
  stroke(context, mark.path, erases ? "#000" : color, size, tool);
  if (erases) context.globalCompositeOperation = "source-over";
}

/** What is being drawn: an eraser shows as paper, because it has nothing under it to take away. */
export function paintLive(context: CanvasRenderingContext2D, look: Look, paper: string): void {
  stroke(context, trace(look), look.tool === "eraser" ? paper : look.color, look.size, look.tool);
}

function stroke(context: CanvasRenderingContext2D, path: Path2D, color: string, size: number, tool: string): void {
  context.lineCap = "round";
  context.lineJoin = tool === "rectangle" ? "miter" : "round";
  context.lineWidth = size;
  context.strokeStyle = color;
  context.stroke(path);
}
