"""Makes the secrets of a deployment as files in a folder: `python -m deploy.secrets FOLDER`. What is there already stays.

For a cluster on one's own machine, and as an example: real ones come from a vault and cert-manager (deploy/README.md).
"""

from __future__ import annotations

import datetime
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from roundtable.common.testing.tls import Authority

USERS: Final = ("gateway", "canvas", "presence", "activity", "provision", "operator", "sys")
NODES: Final = ("nats-0.nats-headless", "nats-1.nats-headless", "nats-2.nats-headless")
NAMES: Final = ("nats", *NODES, "localhost", "127.0.0.1")
LIFE: Final = datetime.timedelta(days=365)


def make(folder: Path) -> list[Path]:
    """The files that were not there yet."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A letter first: nats-server would take what begins with a digit for a number.
    passwords = "".join(f"{user}=p{secrets.token_hex(24)}\n" for user in USERS)
    wanted = {
        "nats-passwords.env": passwords.encode(),
        "gateway-jwt.env": f"secret={secrets.token_urlsafe(48)}\n".encode(),
    }
    if not all((folder / name).exists() for name in ("ca.crt", "tls.crt", "tls.key")):
        authority = Authority("Roundtable NATS", LIFE)
        pair = authority.sign(NAMES)
        wanted |= {"ca.crt": authority.certificate, "tls.crt": pair.certificate, "tls.key": pair.key}
    made = []
    for name, content in wanted.items():
        path = folder / name
        if path.exists() and not name.startswith(("ca.", "tls.")):
            continue
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        made.append(path)
    return made


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python -m deploy.secrets FOLDER", file=sys.stderr)
        sys.exit(2)
    for each in make(Path(sys.argv[1])):
        print(each)
