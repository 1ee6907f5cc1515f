"""Writes random secrets for docker compose: `python3 -m deploy.envfile [.env]`. What stands in the file already stays.

Knows the standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path
from typing import Final

NATS_USERS: Final = ("gateway", "canvas", "presence", "activity", "provision", "operator", "sys")


def wanted() -> dict[str, str]:
    """A letter first: nats-server would take what begins with a digit for a number."""
    passwords = {f"NATS_{user.upper()}_PASSWORD": f"p{secrets.token_hex(24)}" for user in NATS_USERS}
    return passwords | {
        "ROUNDTABLE_JWT_SECRET": secrets.token_urlsafe(48),
        "GRAFANA_PASSWORD": f"p{secrets.token_hex(12)}",
    }


def complete(path: Path) -> list[str]:
    """Adds what the file lacks, and returns the names of that. The file is readable by its owner alone."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    there = set(re.findall(r"^\s*(?:export\s+)?(\w+)\s*=", before, re.MULTILINE))
    missing = {name: value for name, value in wanted().items() if name not in there}
    if missing:
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8"
        ) as file:
            if before and not before.endswith("\n"):
                file.write("\n")
            file.writelines(f"{name}={value}\n" for name, value in missing.items())
    path.chmod(0o600)
    return [*missing]


if __name__ == "__main__":
    file = Path(sys.argv[1] if len(sys.argv) > 1 else ".env")
    added = complete(file)
    print(f"secrets: {file} has all that is needed" + (f"; new: {', '.join(added)}" if added else ""))
