"""Logs and metrics: one JSON object a line whatever is logged, and nothing that logs can stop a service."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from roundtable.common.telemetry import CONTEXT, Log, ServiceMetrics, log


class Lines(io.StringIO):
    def read_all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().split("\n")[:-1]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What `log` writes, and libraries through it; everything is as it was afterwards."""
    kept, root = dict(vars(log)), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = Lines()
    log.configure("canvas", "canvas-1", "INFO", out)
    yield out
    vars(log).update(kept)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_one_object_with_who_and_when(lines: Lines) -> None:
    log.info("room.loaded", room="lobby", events=3)
    [line] = lines.read_all()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "INFO",
        "service": "canvas",
        "instance": "canvas-1",
        "event": "room.loaded",
        "room": "lobby",
        "events": 3,
    }


def test_what_a_line_is_about_comes_from_its_context(lines: Lines) -> None:
    token = CONTEXT.set({"room": "lobby", "request": "7"})
    try:
        log.warning("odd", request="8")
    finally:
        CONTEXT.reset(token)
    log.warning("odd")
    first, second = lines.read_all()
    assert (first["room"], first["request"]) == ("lobby", "8")
    assert "room" not in second


def test_what_is_below_the_level_is_not_written(lines: Lines) -> None:
    log.debug("small")
    log.configure("canvas", "canvas-1", "ERROR", lines)
    log.info("small")
    log.warning("small")
    log.error("large")
    assert [line["event"] for line in lines.read_all()] == ["large"]


def test_an_exception_brings_its_traceback(lines: Lines) -> None:
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError:
        log.exception("failed", room="lobby")
    [line] = lines.read_all()
    assert line["level"] == "ERROR"
    assert "ZeroDivisionError: by nothing" in line["traceback"]


def test_a_text_with_newlines_stays_one_line(lines: Lines) -> None:
    log.error("odd", text='a\nb\r\n"c"\u2028')
    assert lines.getvalue().count("\n") == 1
    assert lines.read_all()[0]["text"] == 'a\nb\r\n"c"\u2028'


class Unspeakable:
    def __repr__(self) -> str:
        return "<unspeakable>"


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value", [Unspeakable(), "\ud800", 10**400, float("nan"), {1: 2, (1, 2): 3}, LOOP, b"\xff", {1, 2}]
)
def test_whatever_is_logged_makes_a_line(lines: Lines, value: object) -> None:
    log.error("odd", value=value)
    [line] = lines.read_all()
    assert line["event"].strip("'") == "odd"
    assert "value" in line


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name not in ("self", "event")), st.text() | st.integers()
    )
)
def test_any_fields_make_a_line(fields: dict[str, Any]) -> None:
    own, out = Log(), Lines()
    own._out = out
    own.error("odd", **fields)
    assert len(out.read_all()) == 1


def test_a_log_that_nobody_reads_any_more_stops_nothing() -> None:
    own, closed = Log(), Lines()
    closed.close()
    own._out = closed
    own.error("odd")


def test_what_libraries_log_comes_in_the_same_form(lines: Lines) -> None:
    logging.getLogger("nats").error("lost %d of %s", 3, "them", exc_info=OSError("gone"))
    logging.getLogger("nats").info("small talk")
    [bridge] = [each for each in logging.getLogger().handlers if type(each).__module__ == Log.__module__]
    bridge.handle(logging.LogRecord("nats", logging.WARNING, "", 0, "%d", ("no number",), None))
    first, second = lines.read_all()
    assert (first["event"], first["level"], first["logger"]) == ("library", "ERROR", "nats")
    assert first["message"] == "lost 3 of them"
    assert first["error"] == "OSError('gone')"
    assert second["message"] == "%d"


def test_the_metrics_of_a_service_name_no_room_and_no_user() -> None:
    registry = CollectorRegistry()
    metrics = ServiceMetrics(registry)
    metrics.commands.labels("canvas.draw", "ok").inc()
    metrics.conflicts.inc()
    text = generate_latest(registry).decode()
    assert 'roundtable_commands_total{method="canvas.draw",outcome="ok"} 1.0' in text
    assert "roundtable_log_conflicts_total 1.0" in text
    assert set(re.findall(r"[{,](\w+)=", text)) <= {"method", "outcome", "le"}
