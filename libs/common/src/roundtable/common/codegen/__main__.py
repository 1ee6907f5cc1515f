"""Build layer: writes the generated files: `python -m roundtable.common.codegen [--check]`, from the repository's root.

With `--check` nothing is written: status 1 and the names of the files that are not what they would be.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from . import inventory, pages
from .asyncapi import asyncapi
from .json_schema import json_schema
from .openapi import openapi
from .typescript import typescript


def generated() -> dict[str, str]:
    """Path below the root to content."""
    return {
        "docs/schema/roundtable.schema.json": _json(json_schema()),
        "docs/schema/asyncapi.json": _json(asyncapi()),
        "docs/schema/openapi.json": _json(openapi()),
        "docs/errors.md": pages.errors_page(),
        "docs/methods.md": pages.methods_page(),
        "docs/configuration.md": inventory.configuration_page(),
        "docs/metrics.md": inventory.metrics_page(),
        "clients/typescript/src/generated.ts": typescript(),
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def differing(root: Path) -> dict[str, str]:
    """What would be written there, of that which is not there already."""
    return {
        name: content
        for name, content in generated().items()
        if not (root / name).is_file() or (root / name).read_bytes() != content.encode()
    }


def main(arguments: list[str], root: Path) -> int:
    parser = argparse.ArgumentParser(
        "python -m roundtable.common.codegen", description="Writes the generated files."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    check = parser.parse_args(arguments).check
    if not (root / "libs/common").is_dir():
        print("codegen: run it from the repository's root", file=sys.stderr)
        return 2
    wanted = differing(root)
    for name, content in wanted.items():
        if check:
            print(f"codegen: {name} is out of date: run `make schema`", file=sys.stderr)
        else:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode())
            print(f"codegen: wrote {name}")
    return 1 if check and wanted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
