// Helper layer: a line as it grows under a hand: live ink while it does, one stored operation when it ends. Knows no transport.

import type { Clock } from "./clock.js";
import type { Stroke, StrokeStyle } from "./face.js";
import type { CanvasDrawAnswer, DrawOperation, Point } from "./generated.js";
import { Throttle } from "./throttle.js";

/** Of one operation and one preview, by the contract. */
const POINTS_AT_MOST = 2_000;
/** Bytes of an operation's JSON that leave room for the message around it. */
const BYTES_AT_MOST = 60_000;

export interface Paper {
  clock: Clock;
  /** Milliseconds between previews. */
  interval: () => number;
  fluent: () => boolean;
  tell: (method: "canvas.preview", params: object) => void;
  draw: (operations: DrawOperation[], timeout?: number) => Promise<CanvasDrawAnswer>;
}

export function beginStroke(paper: Paper, id: string, style: StrokeStyle): Stroke {
  const { tool = "pen", color = "#000000", size = 2, tolerance = 0.5 } = style;
  let points: Point[] = [];
  /** How many have been shown. */
  let shown = 0;
  let answer: Promise<CanvasDrawAnswer> | undefined;

  const ink = new Throttle(paper.clock, paper.interval, () => {
    if (answer || !paper.fluent()) return; // they wait for the next time
    const fresh = points.slice(shown, shown + POINTS_AT_MOST);
    if (!fresh.length) return;
    shown += fresh.length;
    paper.tell("canvas.preview", { id, tool, color, size, points: fresh });
  });

  return {
    id,
    get points() {
      return points;
    },
    add(x, y) {
      if (answer) return;
      const point = { x: rounded(x), y: rounded(y) };
      const last = points[points.length - 1];
      if (last && Math.hypot(point.x - last.x, point.y - last.y) < tolerance) return;
      points.push(point);
      if (points.length > POINTS_AT_MOST) {
        points = thinned(points);
        shown = Math.min(shown, points.length);
      }
      ink.run();
    },
    end(timeout) {
      const operation = (): DrawOperation => ({ type: tool === "pen" ? "draw" : "erase", tool, points, color, size, id });
      while (JSON.stringify(operation()).length > BYTES_AT_MOST) points = thinned(points);
      return (answer ??= points.length ? paper.draw([operation()], timeout) : Promise.resolve({ operations: [] }));
    },
  };
}

/** Hundredths of a map unit: nobody sees less, and a message holds only so much. */
const rounded = (value: number): number => Math.round(value * 100) / 100;

/** Every other point, and both ends. */
function thinned(points: readonly Point[]): Point[] {
  return points.filter((_, index) => index % 2 === 0 || index === points.length - 1);
}
