"""Metrics for Prometheus, computed when they are asked for.

Nothing is counted twice: a scrape reads what runs and stores count anyway.
"""

import datetime
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from scrubber import __version__
from scrubber.model import Backlog
from scrubber.reporting.report import OUTCOMES
from scrubber.reporting.totals import Totals

#: Shown from the start on, so that a rate can be taken of the first one.
STATUSES = ("succeeded", "partial", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Durations:
    """How long calls took.

    :param bounds: seconds, ascending.
    :param took: how many took no more than the bound of the same number, and more than the one
        before; the last one longer than all.
    :param seconds: of all of them together.
    """

    bounds: Sequence[float] = ()
    took: Sequence[int] = (0,)
    seconds: float = 0.0

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: each counts all that took no longer than its bound."""
        so_far, buckets = 0, []
        for bound, count in zip([*self.bounds, math.inf], self.took, strict=True):
            so_far += count
            buckets.append(("+Inf" if math.isinf(bound) else str(float(bound)), float(so_far)))
        return buckets


@dataclass(frozen=True, slots=True)
class StoreReading:
    """One configured store, as it is now.

    :param limit: locations a second that it gets at most, None for no limit.
    :param errors: its answers by kind of error since the process began, one for each location.
    :param parked: locations that cannot be deleted, None if nobody knows.
    """

    paused: bool = False
    circuit_open: bool = False
    limit: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    calls: Durations = Durations()
    parked: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that one scrape shows.

    :param stores: the configured stores, by name.
    :param backlog: None while nobody knows.
    :param slots: store calls that may be under way at the same time, and that are.
    :param remembers: whether the state database can be used.
    :param audit_lost: audit lines that could not be written.
    :param admin_failures: how often the admin API had to be started anew.
    :param workers: how many worker processes there should be, 0 for none at all.
    :param worker_deaths: how often one had to be started again.
    """

    totals: Totals
    stores: Mapping[str, StoreReading]
    backlog: Backlog | None = None
    slots: int = 0
    slots_busy: int = 0
    remembers: bool = True
    audit_lost: int = 0
    admin_failures: int = 0
    workers: int = 0
    workers_up: int = 0
    worker_deaths: int = 0


class ScrubberCollector(Collector):
    """What scrubber counts, as families of metrics; docs/monitoring.md lists them.

    :param read: asked at each scrape.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        return []  # so that a registry does not have to collect to know the names

    def collect(self) -> Iterator[Metric]:
        reading = self._read()
        yield InfoMetricFamily(
            "scrubber_build", "The version that runs.", value={"version": __version__}
        )
        yield from _work(reading.totals)
        yield from _runs(reading.totals)
        yield from _stores(reading.stores)
        yield from _backlog(reading.backlog)
        yield _gauge("scrubber_slots", "Store calls that may be under way.", reading.slots)
        yield _gauge("scrubber_slots_busy", "Store calls under way.", reading.slots_busy)
        yield _gauge(
            "scrubber_state_database_up",
            "Whether the state database can be used.",
            reading.remembers,
        )
        yield _counter(
            "scrubber_audit_lost", "Audit lines that could not be written.", reading.audit_lost
        )
        yield _counter(
            "scrubber_admin_failures",
            "How often the admin API had to be started anew.",
            reading.admin_failures,
        )
        if reading.workers:
            yield from _workers(reading)


def registry(read: Callable[[], Reading]) -> CollectorRegistry:
    """scrubber's metrics, and what Prometheus knows of any process."""
    metrics = CollectorRegistry()
    metrics.register(ScrubberCollector(read))
    ProcessCollector(registry=metrics)
    return metrics


def exposition(metrics: CollectorRegistry) -> bytes:
    """In Prometheus's text format."""
    return generate_latest(metrics)


# Families -----------------------------------------------------------------------------------


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(name, help, value=value)


def _work(totals: Totals) -> Iterator[Metric]:
    locations = CounterMetricFamily(
        "scrubber_locations",
        "Locations by what became of them, once in each run.",
        labels=["store", "outcome"],
    )
    freed = CounterMetricFamily(
        "scrubber_freed_bytes", "Bytes that the stores gave back.", labels=["store"]
    )
    for store, tally in sorted(totals.stores.items()):
        for outcome in OUTCOMES:
            locations.add_metric([store, outcome.value], tally.locations[outcome])
        freed.add_metric([store], tally.bytes_freed)
    yield locations
    yield freed
    yield _counter(
        "scrubber_images_scrubbed", "Images of which nothing is left.", totals.images_scrubbed
    )


def _runs(totals: Totals) -> Iterator[Metric]:
    runs = CounterMetricFamily("scrubber_runs", "Runs that ended, by status.", labels=["status"])
    for status in sorted({*STATUSES, *totals.runs}):
        runs.add_metric([status], totals.runs[status])
    ended = GaugeMetricFamily(
        "scrubber_last_run_timestamp_seconds",
        "When the last run of each status ended.",
        labels=["status"],
    )
    for status, moment in sorted(totals.ended_at.items()):
        ended.add_metric([status], moment.replace(tzinfo=datetime.UTC).timestamp())
    yield runs
    yield ended
    yield _gauge("scrubber_run_in_progress", "Whether a run goes on.", totals.running)
    yield _counter(
        "scrubber_alarms", "What happened though it must not; see the reports.", totals.alarms
    )


def _stores(stores: Mapping[str, StoreReading]) -> Iterator[Metric]:
    calls = HistogramMetricFamily(
        "scrubber_store_call_duration_seconds", "Calls that delete.", labels=["store"]
    )
    errors = CounterMetricFamily(
        "scrubber_store_errors",
        "A store's answers that were errors, by kind, one for each location.",
        labels=["store", "error"],
    )
    limit = GaugeMetricFamily(
        "scrubber_store_rate_limit",
        "Locations a second that a store gets at most; absent without a limit.",
        labels=["store"],
    )
    circuit = GaugeMetricFamily(
        "scrubber_store_circuit_open",
        "Whether a store failed as a whole and is left alone.",
        labels=["store"],
    )
    paused = GaugeMetricFamily(
        "scrubber_store_paused", "Whether an operator has paused a store.", labels=["store"]
    )
    parked = GaugeMetricFamily(
        "scrubber_parked_locations", "Locations that cannot be deleted.", labels=["store"]
    )
    for name, store in sorted(stores.items()):
        calls.add_metric([name], store.calls.buckets, store.calls.seconds)
        for error in sorted({"throttled", *store.errors}):
            errors.add_metric([name, error], store.errors.get(error, 0))
        if store.limit is not None:
            limit.add_metric([name], store.limit)
        circuit.add_metric([name], store.circuit_open)
        paused.add_metric([name], store.paused)
        if store.parked is not None:
            parked.add_metric([name], store.parked)
    yield from (calls, errors, limit, circuit, paused, parked)


def _workers(reading: Reading) -> Iterator[Metric]:
    yield _gauge("scrubber_workers", "Worker processes there should be.", reading.workers)
    yield _gauge("scrubber_workers_up", "Worker processes that can scrub.", reading.workers_up)
    yield _counter(
        "scrubber_worker_deaths",
        "How often a worker process had to be started again.",
        reading.worker_deaths,
    )


def _backlog(backlog: Backlog | None) -> Iterator[Metric]:
    if backlog is None:
        return
    yield _gauge("scrubber_backlog_images", "Images that are due and not deleted.", backlog.images)
    yield _gauge("scrubber_backlog_bytes", "Their bytes.", backlog.bytes)
    yield _gauge(
        "scrubber_backlog_oldest_age_seconds",
        "Seconds since the first of them was deleted.",
        backlog.oldest or 0.0,
    )
