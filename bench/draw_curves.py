"""Draws the curves of the row `sweep`: `draw_curves.py DATA FOLDER`, with the benchmark's own environment (matplotlib)."""

# mypy: ignore-errors

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

AXES = {
    "people": ("people", "People in each of 4 rooms, all moving at 20 Hz"),
    "rooms": ("rooms", "Rooms of 10 people, all moving at 20 Hz"),
    "gateways": ("gateways", "Gateways that share 10 rooms of 6 people, all moving at 20 Hz"),
}

curves = json.loads(Path(sys.argv[1]).read_text())
for name, (axis, title) in AXES.items():
    points = curves[name]
    across = [point[axis] for point in points]
    figure, left = pyplot.subplots(figsize=(7, 3.6), dpi=110)
    left.plot(
        across, [point["us"] for point in points], "o-", color="#1f6feb", label="CPU µs a delivery (left)"
    )
    left.plot(
        across,
        [point["nats_us"] for point in points],
        "s--",
        color="#8250df",
        label="of it nats-server (left)",
    )
    left.set(xlabel=title, ylabel="µs a delivery", yscale="log")
    right = left.twinx()
    right.plot(across, [point["cores"] for point in points], "^-", color="#bc4c00", label="cores (right)")
    right.set(ylabel="cores", ylim=(0, None))
    lines = [*left.get_lines(), *right.get_lines()]
    left.legend(lines, [line.get_label() for line in lines], loc="upper center", fontsize=8)
    left.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(Path(sys.argv[2]) / f"growth-{name}.png")
