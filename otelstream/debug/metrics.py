"""OpenTelemetry's metrics as Prometheus's text, with the names that Prometheus gives them when they come over OTLP.

Source of the names: ``prometheus/otlptranslator``, strategy ``UnderscoreEscapingWithSuffixes`` (the default). So the
rules and dashboards in ``compose/`` fit, pushed or scraped. ``job`` and ``instance`` are the scraper's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    Sum,
)
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What names of letters, digits and underscores need, and every scraper takes."""

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}

Labels = dict[str, str]


def render(data: MetricsData | None) -> bytes:
    """``data``, as a reader with cumulative temporality collects it, in the text format.

    Delta points are left out, because Prometheus has no such thing. An exponential histogram has its sum and count
    only, because its buckets do not fit the text.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(_families(data)))
    return bytes(generate_latest(registry))


def metric_name(name: str, unit: str, *, counter: bool = False, gauge: bool = False) -> str:
    """What Prometheus calls the OpenTelemetry metric ``name``; ``counter``: a monotonic sum, ``gauge``: a gauge."""
    words = re.findall(r"[a-zA-Z0-9:]+", name)
    main, _, per = (part.strip() for part in unit.partition("/"))
    suffixes = [] if "{" in main else [_UNITS.get(main, main)]
    if per and "{" not in per:
        suffixes.append(f"per_{_PER_UNITS.get(per, per)}")
    for suffix in suffixes:
        clean = re.sub(r"[^a-zA-Z0-9:]+", "_", suffix).strip("_")
        if clean and clean not in words:
            words.append(clean)
    if counter:
        words = [word for word in words if word != "total"] + ["total"]
    if gauge and unit == "1":
        words = [word for word in words if word != "ratio"] + ["ratio"]
    joined = "_".join(words)
    return f"_{joined}" if joined[:1].isdigit() else joined


def label_name(name: str) -> str:
    """What Prometheus calls the OpenTelemetry attribute ``name``."""
    clean = re.sub(r"[^a-zA-Z0-9]+", "_", name)
    return f"key_{clean}" if clean[:1].isdigit() else clean


class _Collected(Collector):
    """What is there already, as the registry asks for it."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _families(data: MetricsData | None) -> list[Family]:
    made: dict[str, _Merged] = {}
    for resource in data.resource_metrics if data else ():
        target = made.setdefault("target_info", _Merged(Family("target_info", "Target metadata", "gauge")))
        target.add([("target_info", _labels(resource.resource.attributes), 1)])
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found = _family(metric)
                if found is None:
                    continue
                family, series = found
                merged = made.setdefault(family.name, _Merged(family))
                if merged.family.type == family.type:
                    for samples in series:
                        merged.add(samples)
    return [merged.family for merged in made.values()]


Samples = list[tuple[str, Labels, float]]
"""One data point: name, labels and value of each of its samples."""


class _Merged:
    """One family of the text, from however many scopes. The first series with the same labels stays: a second one would
    make Prometheus refuse the whole page."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._seen: set[frozenset[tuple[str, str]]] = set()

    def add(self, samples: Samples) -> None:
        series = frozenset(samples[-1][1].items())  # of a histogram, its buckets have one label more
        if series in self._seen:
            return
        self._seen.add(series)
        for name, labels, value in samples:
            self.family.add_sample(name, labels, value)


def _family(metric: Metric) -> tuple[Family, Iterator[Samples]] | None:
    data, text, unit = metric.data, metric.description or "", metric.unit or ""
    if isinstance(data, Gauge):
        name = metric_name(metric.name, unit, gauge=True)
        return Family(name, text, "gauge"), ([(name, _labels(p.attributes), p.value)] for p in data.data_points)
    if data.aggregation_temporality is not AggregationTemporality.CUMULATIVE:
        return None
    if isinstance(data, Sum):
        name = metric_name(metric.name, unit, counter=data.is_monotonic)
        # prometheus_client puts the suffix of a counter back.
        family = Family(name.removesuffix("_total"), text, "counter" if data.is_monotonic else "gauge")
        return family, ([(name, _labels(p.attributes), p.value)] for p in data.data_points)
    name = metric_name(metric.name, unit)
    if isinstance(data, Histogram):
        return Family(name, text, "histogram"), (_histogram(name, point) for point in data.data_points)
    if isinstance(data, ExponentialHistogram):
        points = data.data_points
        return Family(name, text, "histogram"), (_totals(name, p.attributes, p.count, p.sum) for p in points)
    return None


def _histogram(name: str, point: HistogramDataPoint) -> Samples:
    labels, below, buckets = _labels(point.attributes), 0, []
    for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False):  # the last has no bound
        below += count
        buckets.append((f"{name}_bucket", {**labels, "le": str(float(bound))}, float(below)))
    return [*buckets, *_totals(name, point.attributes, point.count, point.sum)]


def _totals(name: str, attributes: Mapping[str, object] | None, count: int, total: float) -> Samples:
    labels = _labels(attributes)
    return [
        (f"{name}_bucket", {**labels, "le": "+Inf"}, count),
        (f"{name}_count", labels, count),
        (f"{name}_sum", labels, total),
    ]


def _labels(attributes: Mapping[str, object] | None) -> Labels:
    """Attributes whose names become the same one are joined by a semicolon, in the order of their own names."""
    made: Labels = {}
    for key, value in sorted((attributes or {}).items()):
        name = label_name(key)
        if not name.strip("_"):  # no letter or digit in it: Prometheus leaves it out, too
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        made[name] = f"{made[name]};{text}" if name in made else text
    return made
