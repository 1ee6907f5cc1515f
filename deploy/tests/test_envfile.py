"""Secrets for docker compose: random, for their owner's eyes alone, and never written over."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from deploy.envfile import complete

ROOT = Path(__file__).parents[2]


def values(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if line)


def test_all_that_the_compose_file_asks_for_is_written_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    complete(path)
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert asked == values(path).keys()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(len(value) >= 25 and value[0].isalnum() for value in values(path).values())
    assert len({*values(path).values()}) == len(asked)


def test_no_two_houses_have_the_same(tmp_path: Path) -> None:
    complete(tmp_path / "one")
    complete(tmp_path / "two")
    assert not {*values(tmp_path / "one").values()} & {*values(tmp_path / "two").values()}


def test_what_is_there_stays_and_what_is_missing_is_added(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nNATS_CANVAS_PASSWORD=own\nROUNDTABLE_HTTP_PORT=9000")
    path.chmod(0o644)
    added = complete(path)
    assert "NATS_CANVAS_PASSWORD" not in added
    assert path.read_text().startswith("# mine\nNATS_CANVAS_PASSWORD=own\nROUNDTABLE_HTTP_PORT=9000\nNATS_")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert complete(path) == []
    assert path.read_bytes() == before
