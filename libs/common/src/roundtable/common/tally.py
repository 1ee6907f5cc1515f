"""Shell layer: counters for hot paths: counting is an integer addition, and Prometheus reads the sum when it asks.

A `prometheus_client.Counter` takes a lock and checks its argument each time. All that counts and the answer to a scrape run on
the same loop, so no lock is needed.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class Tally:
    """One number: `tally.value += 1`. Only ever grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Tallies(Collector):
    """A counter's family: a `Tally` for each set of label values, made when it is first asked for."""

    def __init__(
        self, name: str, documentation: str, labels: tuple[str, ...], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labelnames = labels
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        if len(values) != len(self._labelnames):
            raise ValueError(f"{self._name} has the labels {self._labelnames}")
        tally = self._tallies.get(values)
        if tally is None:
            tally = self._tallies[values] = Tally()
        return tally

    def describe(self) -> Iterable[CounterMetricFamily]:
        return (CounterMetricFamily(self._name, self._documentation, labels=self._labelnames),)

    def collect(self) -> Iterable[CounterMetricFamily]:
        (family,) = self.describe()
        for values, tally in tuple(self._tallies.items()):
            family.add_metric(values, tally.value)
        return (family,)
