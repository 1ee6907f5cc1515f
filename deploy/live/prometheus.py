"""A Prometheus of one's own over given targets, with the real rules. Knows nothing of what it scrapes."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

Sample = dict[str, Any]

EVERY: Final = "1s"
"""Between scrapes, and between looks at the rules."""
FOR: Final = "2s"
"""What every `for:` is shortened to, or a fault would have to last for minutes."""


class Prometheus:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def query(self, expr: str) -> list[Sample]:
        """An instant vector's samples. Raises `OSError`."""
        data = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expr}))
        result: list[Sample] = (
            data["result"] if data["resultType"] == "vector" else [{"value": data["result"]}]
        )
        return result

    def firing(self) -> dict[str, Mapping[str, str]]:
        """Name to labels of every alert that fires."""
        alerts = self._get("/api/v1/alerts")["alerts"]
        return {
            each["labels"]["alertname"]: {**each["labels"], **each["annotations"]}
            for each in alerts
            if each["state"] == "firing"
        }

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(self._url + "/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            return json.load(answer)["data"]


@contextmanager
def prometheus(
    binary: str, home: Path, rules: Sequence[Path], targets: Mapping[str, Sequence[str]]
) -> Iterator[Prometheus]:
    """Runs one; it and its data are gone at the end. The rules are the real ones with short `for:`s."""
    (home / "rules").mkdir()
    for path in rules:
        short = re.sub(r"^(\s+for:) \S+$", rf"\1 {FOR}", path.read_text(), flags=re.MULTILINE)
        (home / "rules" / path.name).write_text(short)
    config = {
        "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(hosts)}]} for job, hosts in targets.items()
        ],
    }
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = _free_port()
    with (home / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={home}/prometheus.yml",
                f"--storage.tsdb.path={home}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            running = Prometheus(port)
            until(running.ready, 30)
            yield running
        finally:
            process.terminate()
            process.wait(20)


def until(holds: Callable[[], object], within: float) -> bool:
    """Asks four times a second; False when it did not come to hold in so many seconds."""
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.25)
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
