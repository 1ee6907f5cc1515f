"""Tools that Debian has and PyPI has not: unpacked beside the other tools, installed nowhere, so that no daemon starts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from .programs import run
from .result import Unavailable

_HOME: Final = Path(sys.prefix) / "debian"
_PACKAGES: Final = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
}


def tool(name: str) -> str:
    """The path of a tool: the machine's own, else Debian's. Raises `Unavailable`."""
    own = shutil.which(name)
    if own is not None:
        return own
    unpacked = _HOME / "usr" / "bin" / name
    if not unpacked.exists():
        _unpack(_PACKAGES[name])
    return str(unpacked)


def _unpack(package: str) -> None:
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or dpkg is None:
        raise Unavailable(f"{package}: install it (there is no apt-get here to fetch it with)")
    _HOME.mkdir(parents=True, exist_ok=True)

    if run(apt, "-qq", "download", package, cwd=_HOME).returncode:
        run(apt, "-qq", "update")
        if run(apt, "-qq", "download", package, cwd=_HOME).returncode:
            raise Unavailable(f"{package}: apt-get cannot fetch it (try `apt-get update` as root)")
    for archive in _HOME.glob(f"{package}_*.deb"):
        run(dpkg, "-x", archive, _HOME)
        archive.unlink()
