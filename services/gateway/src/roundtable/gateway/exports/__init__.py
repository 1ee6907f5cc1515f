"""A room given away as files: `canvas.json`, `canvas.svg`, `canvas.png`, `activity.jsonl` (OP4)."""
