"""Counters, gauges and latency histograms that cost nanoseconds to touch, exported to Prometheus and as JSON.

prometheus_client's own counters take a lock per increment; on the hot path a plain attribute is enough,
because a service is one thread. They are read out by a collector when somebody scrapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from tickmesh.hotpath import Histogram

_QUANTILES = (50.0, 95.0, 99.0)


class Counter:
    """Only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, n: int = 1) -> None:
        self.value += n


class Gauge:
    """Goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value


class Latency:
    """A mergeable histogram of durations in ns, at most 1/128 wide a bucket; ``record_ns`` is the histogram's own."""

    __slots__ = ("histogram", "record_ns")

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.record_ns: Callable[[int], None] = self.histogram.record
        """Note one duration; negative ones (a stamp from another machine's clock) count as 0."""

    @property
    def count(self) -> int:
        return self.histogram.count

    @property
    def sum_ns(self) -> int:
        return self.histogram.sum

    def quantile_us(self, percent: float) -> float:
        return self.histogram.percentile(percent) / 1000

    def summary(self) -> dict[str, float]:
        """``{n, p50, p95, p99, max}`` in microseconds."""
        n = self.histogram.count
        quantiles = {f"p{q:g}": round(self.quantile_us(q), 1) for q in _QUANTILES}
        return {"n": n, **quantiles, "max": round(self.histogram.max / 1000, 1)}


_C = TypeVar("_C")
_Labels = tuple[tuple[str, str], ...]
_Table = dict[str, tuple[str, dict[_Labels, _C]]]


class Metrics(Collector):
    """The metrics of one service; names get the prefix ``tickmesh_``."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._counters: _Table[Counter] = {}
        self._gauges: _Table[Gauge] = {}
        self._latencies: _Table[Latency] = {}

    def counter(self, name: str, help: str, **labels: str) -> Counter:
        """Get or make; keep the result where it is used often. Name it ``*_total``."""
        return _get(self._counters, name, help, labels, Counter)

    def gauge(self, name: str, help: str, **labels: str) -> Gauge:
        return _get(self._gauges, name, help, labels, Gauge)

    def latency(self, name: str, help: str, **labels: str) -> Latency:
        """Name it ``*_latency_us``; it is recorded in ns and exported in us."""
        return _get(self._latencies, name, help, labels, Latency)

    def collect(self) -> Iterator[Any]:
        for name, (help, counters) in list(self._counters.items()):
            yield self._family(CounterMetricFamily, name.removesuffix("_total"), help, counters)
        for name, (help, gauges) in list(self._gauges.items()):
            yield self._family(GaugeMetricFamily, name, help, gauges)
        for name, (help, latencies) in list(self._latencies.items()):
            for key, latency in list(latencies.items()):
                labels = {"service": self.service, **dict(key)}
                summary = SummaryMetricFamily(f"tickmesh_{name}", help, labels=list(labels))
                summary.add_metric(list(labels.values()), latency.count, latency.sum_ns / 1000)
                yield summary
                quantiles = GaugeMetricFamily(
                    f"tickmesh_{name}_quantile", f"{help} (quantiles since start)", labels=[*labels, "quantile"]
                )
                for q in _QUANTILES:
                    if latency.count:
                        quantiles.add_metric([*labels.values(), str(q / 100)], latency.quantile_us(q))
                yield quantiles

    def _family(self, kind: Any, name: str, help: str, children: Any) -> Any:
        label_names: list[str] = sorted({"service", *(k for key in children for k, _ in key)})
        family = kind(f"tickmesh_{name}", help, labels=label_names)
        for key, child in list(children.items()):
            labels = {"service": self.service, **dict(key)}
            family.add_metric([labels.get(n, "") for n in label_names], child.value)
        return family

    def exposition(self) -> bytes:
        """Prometheus text."""
        return generate_latest(self.registry)

    def stats(self) -> dict[str, Any]:
        """The same as plain data: ``{counters, gauges, latency_us}``, keys ``name{label=value}``."""
        return {
            "counters": {_flat(n, k): c.value for n, (_, t) in self._counters.items() for k, c in t.items()},
            "gauges": {_flat(n, k): g.value for n, (_, t) in self._gauges.items() for k, g in t.items()},
            "latency_us": {_flat(n, k): h.summary() for n, (_, t) in self._latencies.items() for k, h in t.items()},
        }


def _get(table: _Table[_C], name: str, help: str, labels: dict[str, str], make: Callable[[], _C]) -> _C:
    children = table.setdefault(name, (help, {}))[1]
    key = tuple(sorted(labels.items()))
    found = children.get(key)
    if found is None:
        found = children[key] = make()
    return found


def _flat(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    return name + ("{" + ",".join(f"{k}={v}" for k, v in labels) + "}" if labels else "")
