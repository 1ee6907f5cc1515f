"""Build layer: the settings and metrics of every installed service, found at run time, so that none is named here.

A service is a package beside `common` in the namespace. Its settings are subclasses of `Settings`; its metrics are the
classes called `…Metrics` that are made from a registry.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, Final, get_args, get_origin

import msgspec
from msgspec import Meta
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

import roundtable

from ..config import Settings, help_of, variable
from .pages import HEAD, table

_SKIPPED: Final = ("__main__", "testing", "codegen")


def modules() -> Iterator[ModuleType]:
    """Every module of the namespace but programs, the tests' helpers and this package, sorted by name."""
    names = {
        found.name
        for found in pkgutil.walk_packages(roundtable.__path__, "roundtable.")
        if not any(part in _SKIPPED for part in found.name.split("."))
    }
    yield from (import_module(name) for name in sorted(names))


def _classes(suffix: str) -> Iterator[type[Any]]:
    for module in modules():
        for name, kind in vars(module).items():
            if isinstance(kind, type) and kind.__module__ == module.__name__ and name.endswith(suffix):
                yield kind


def _owner(kind: type[Any]) -> str:
    """Who reads or has it, in words; a class of `common` that only some have says so itself."""
    if hasattr(kind, "OF"):
        return str(kind.OF)
    _, package, *rest = kind.__module__.split(".")
    if package != "common":
        return package
    return "`make run`" if rest[0] == "localrun" else "all"


# -- settings


def configuration_page() -> str:
    rows: dict[str, tuple[str, str, list[str], str]] = {}
    for kind in sorted(
        (k for k in _classes("Settings") if issubclass(k, Settings)), key=lambda k: k is not Settings
    ):
        takes = {variable(each.name): _takes(each.type) for each in msgspec.structs.fields(kind)}
        inherited = {name for name, _, _ in help_of(Settings)} if kind is not Settings else set()
        for name, default, meaning in help_of(kind):
            if name not in inherited:
                row = rows.setdefault(name, (takes[name], _default(default), [], meaning))
                row[2].append(_owner(kind))
    return (
        HEAD + "# Configuration\n\n"
        "Every program is configured by its environment alone. A variable that is empty counts as not set; one that cannot\n"
        "be used ends the program at start, with status 2 and a line that names it. `make run` reads the same variables,\n"
        "sets those for development (`ROUNDTABLE_ENVIRONMENT`, `ROUNDTABLE_DEV_AUTH`, a secret, a short drain) unless they\n"
        "are given, and gives the gateway alone `ROUNDTABLE_HTTP_PORT`.\n\n"
        + table(
            ("variable", "takes", "default", "read by", "means"),
            (
                (f"`{name}`", takes, default, ", ".join(owners), meaning)
                for name, (takes, default, owners, meaning) in rows.items()
            ),
        )
        + "\nDurations are in seconds unless the name says otherwise. Yes and no are `1` or `0`.\n"
    )


def _default(text: str) -> str:
    return {"True": "`1`", "False": "`0`", "": ""}.get(text, f"`{text}`")


def _takes(hint: Any) -> str:
    """What values are good, as short as can be."""
    metas = [part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Meta)]
    kind = hint.__origin__ if metas else hint
    if kind is bool:
        return "yes or no"
    if get_origin(kind) is tuple:
        return "list"
    if kind not in (int, float):
        return ", ".join(f"`{word}`" for word in get_args(kind)) or "text"
    low = next((f"from {meta.ge:,}" for meta in metas if meta.ge is not None), "")
    low = low or next((f"over {meta.gt:,}" for meta in metas if meta.gt is not None), "")
    high = next((f"to {meta.le:,}" for meta in metas if meta.le is not None), "")
    return " ".join(part for part in ("whole number" if kind is int else "number", low, high) if part)


# -- metrics


class _Recorder(CollectorRegistry):
    """Remembers who registers: a family without samples yet does not tell its labels."""

    def __init__(self) -> None:
        super().__init__()
        self.collectors: list[Collector] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.collectors.append(collector)


def metrics_page() -> str:
    rows = []
    for kind in sorted(
        _classes("Metrics"), key=lambda k: (("all", "services").count(_owner(k)) == 0, _owner(k))
    ):
        registry = _Recorder()
        kind(registry, "…") if "service" in inspect.signature(kind).parameters else kind(registry)
        for collector in registry.collectors:
            (family,) = collector.describe()  # type: ignore[attr-defined]
            name = family.name + ("_total" if family.type == "counter" else "")
            labels: tuple[str, ...] = collector._labelnames  # type: ignore[attr-defined]
            rows.append(
                (
                    f"`{name}`",
                    family.type,
                    ", ".join(f"`{each}`" for each in labels),
                    _owner(kind),
                    family.documentation,
                )
            )
    return (
        HEAD + "# Metrics\n\n"
        "Every program serves these to Prometheus at `/metrics` on its HTTP port, besides those of its process and of Python\n"
        "(`process_…`, `python_…`). No label ever names a room, a user or an address. Times are in seconds; a histogram has\n"
        '`_bucket`, `_sum` and `_count`. "services" are canvas, presence and activity.\n\n'
        + table(("metric", "type", "labels", "of", "means"), rows)
    )
