"""Metrics: true at each scrape, bounded, and named as Prometheus wants them."""

import datetime
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import needed_programs
from lab import Unavailable
from lab.fake_control import a_reading, a_report
from scrubber.model import Backlog, Outcome
from scrubber.reporting import metrics
from scrubber.reporting.metrics import Durations, Reading, StoreReading
from scrubber.reporting.totals import NO_STORE, Totals

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(reading: Reading) -> Samples:
    text = metrics.exposition(metrics.registry(lambda: reading)).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def a_quiet_reading(totals: Totals | None = None) -> Reading:
    return Reading(totals or Totals(lambda: ["fast"]), {"fast": StoreReading()})


# Totals -------------------------------------------------------------------------------------


def test_the_run_that_goes_on_counts_and_is_counted_once() -> None:
    totals = Totals(lambda: ["fast"])
    report = a_report({("fast", Outcome.DELETED): 2})
    totals.begin(report)
    assert totals.running
    assert totals.stores["fast"].locations[Outcome.DELETED] == 2
    report.stores["fast"].locations[Outcome.DELETED] += 1
    assert totals.stores["fast"].locations[Outcome.DELETED] == 3
    totals.end()
    totals.end()
    assert not totals.running
    assert totals.stores["fast"].locations[Outcome.DELETED] == 3
    totals.begin(a_report({("fast", Outcome.DELETED): 4}))
    assert totals.stores["fast"].locations[Outcome.DELETED] == 7


def test_looking_changes_no_report_and_no_sum() -> None:
    totals = Totals(lambda: ["fast"])
    report = a_report({("fast", Outcome.DELETED): 2})
    totals.begin(report)
    for _ in range(3):
        totals.stores["fast"].locations[Outcome.GONE] += 5
    assert report.stores["fast"].locations == {Outcome.DELETED: 2}
    totals.end()
    for _ in range(3):
        totals.stores["fast"].locations[Outcome.GONE] += 5
    assert totals.stores["fast"].locations == {Outcome.DELETED: 2}


def test_images_bytes_and_alarms_are_summed_over_runs() -> None:
    totals = Totals(lambda: ["fast"])
    for _ in range(2):
        report = a_report(alarms=["look"])
        report.total.images_scrubbed = 3
        report.stores["fast"].bytes_freed = 10
        totals.begin(report)
        report.finish()
        totals.end()
    assert (totals.images_scrubbed, totals.alarms) == (6, 2)
    assert totals.stores["fast"].bytes_freed == 20


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as there:
        there.setenv("TZ", "Pacific/Auckland")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_a_failed_run_leaves_the_time_of_the_last_good_one() -> None:
    totals = Totals(list)
    good, bad = a_report(), a_report(failure="no database")
    for report in (good, bad):
        totals.begin(report)
        report.finish()
        totals.end()
    assert totals.runs == {"succeeded": 1, "failed": 1}
    noon = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
    samples = scrape(a_quiet_reading(totals))
    name = "scrubber_last_run_timestamp_seconds"
    assert value(samples, name, status="succeeded") == noon.timestamp()
    assert value(samples, name, status="partial") is None


def test_names_of_stores_that_only_tables_know_make_no_new_series() -> None:
    totals = Totals(lambda: ["fast"])
    for number in range(100):
        totals.begin(a_report({(f"x{number}", Outcome.EXTERNAL): 1}))
        totals.end()
    totals.begin(a_report({("y", Outcome.EXTERNAL): 1}))
    assert set(totals.stores) == {"fast", NO_STORE}
    assert totals.stores[NO_STORE].locations[Outcome.EXTERNAL] == 101


# The exposition -----------------------------------------------------------------------------


def test_every_figure_is_where_it_belongs() -> None:
    samples = scrape(a_reading())
    fast = {"store": "fast"}
    locations = "scrubber_locations_total"
    assert value(samples, locations, outcome="deleted", **fast) == 9
    assert value(samples, locations, outcome="external", store=NO_STORE) == 1
    assert value(samples, "scrubber_runs_total", status="succeeded") == 1
    assert value(samples, "scrubber_store_errors_total", error="throttled", **fast) == 3
    assert value(samples, "scrubber_store_circuit_open", **fast) == 1
    assert value(samples, "scrubber_store_paused", store="slow") == 1
    assert value(samples, "scrubber_store_rate_limit", **fast) == 12.5
    assert value(samples, "scrubber_parked_locations", **fast) == 2
    assert value(samples, "scrubber_backlog_images") == 3
    assert value(samples, "scrubber_backlog_bytes") == 300
    assert value(samples, "scrubber_backlog_oldest_age_seconds") == 42
    assert value(samples, "scrubber_slots") == 16
    assert value(samples, "scrubber_slots_busy") == 2
    assert value(samples, "scrubber_audit_lost_total") == 1
    assert value(samples, "scrubber_admin_failures_total") == 1
    assert value(samples, "scrubber_state_database_up") == 1
    assert value(samples, "scrubber_workers") == 3
    assert value(samples, "scrubber_workers_up") == 2
    assert value(samples, "scrubber_worker_deaths_total") == 1


def test_durations_are_a_cumulative_histogram() -> None:
    name = "scrubber_store_call_duration_seconds"
    samples = scrape(a_reading())
    buckets = [
        value(samples, f"{name}_bucket", store="fast", le=bound) for bound in ("0.1", "1.0", "+Inf")
    ]
    assert buckets == [4, 6, 7]
    assert value(samples, f"{name}_count", store="fast") == 7
    assert value(samples, f"{name}_sum", store="fast") == 6.5


def test_what_nobody_knows_is_absent_and_not_zero() -> None:
    samples = scrape(a_quiet_reading())
    for name in (
        "scrubber_workers",
        "scrubber_backlog_images",
        "scrubber_backlog_bytes",
        "scrubber_backlog_oldest_age_seconds",
    ):
        assert value(samples, name) is None
    assert value(samples, "scrubber_parked_locations", store="fast") is None
    assert value(samples, "scrubber_store_rate_limit", store="fast") is None


def test_counters_begin_with_zero_so_that_the_first_increase_shows() -> None:
    samples = scrape(a_quiet_reading())
    assert value(samples, "scrubber_locations_total", store="fast", outcome="deleted") == 0
    assert value(samples, "scrubber_runs_total", status="failed") == 0
    assert value(samples, "scrubber_freed_bytes_total", store="fast") == 0
    assert value(samples, "scrubber_store_errors_total", store="fast", error="throttled") == 0


def test_an_empty_backlog_has_no_age() -> None:
    reading = replace(a_quiet_reading(), backlog=Backlog())
    assert value(scrape(reading), "scrubber_backlog_oldest_age_seconds") == 0


def test_a_name_cannot_forge_a_sample() -> None:
    evil = 'a"} 1\nscrubber_evil{x="\\'
    totals = Totals(lambda: [evil])
    samples = scrape(Reading(totals, {evil: StoreReading()}))
    assert value(samples, "scrubber_store_paused", store=evil) == 0
    assert not [name for name, _ in samples if name == "scrubber_evil"]


def test_process_and_build_are_shown() -> None:
    samples = scrape(a_quiet_reading())
    assert value(samples, "process_start_time_seconds")
    assert [labels for name, labels in samples if name == "scrubber_build_info"]


def test_each_scrape_asks_anew_and_registering_asks_nothing() -> None:
    asked: list[int] = []

    def read() -> Reading:
        asked.append(1)
        return a_quiet_reading()

    registry = metrics.registry(read)
    assert not asked
    metrics.exposition(registry)
    metrics.exposition(registry)
    assert len(asked) == 2


def test_buckets_of_no_calls() -> None:
    assert Durations().buckets == [("+Inf", 0.0)]


# What is built on them ----------------------------------------------------------------------

ETC = Path(__file__).parents[2] / "etc"
DOCS = Path(__file__).parents[2] / "docs"
BUILT_ON = [
    ETC / "grafana" / "scrubber.json",
    ETC / "prometheus" / "scrubber.rules.yml",
    DOCS / "monitoring.md",
]
_NAME = re.compile(r"\b(?:scrubber_[a-z_]+[a-z]|process_[a-z_]+)\b")
#: Words in them that look alike.
_NO_METRICS = {"scrubber_retries"}


@pytest.mark.parametrize("file", BUILT_ON, ids=lambda file: file.name)
def test_dashboard_alerts_and_docs_name_only_metrics_that_exist(file: Path) -> None:
    named = set(_NAME.findall(file.read_text())) - _NO_METRICS
    assert named
    assert named <= {name for name, _ in scrape(a_reading())}


def test_every_metric_is_in_the_docs() -> None:
    documented = set(_NAME.findall((DOCS / "monitoring.md").read_text()))
    ours = {name for name, _ in scrape(a_reading()) if name.startswith("scrubber_")}
    plain = {re.sub(r"_(bucket|sum|count)$", "_bucket", name) for name in ours}
    assert plain <= documented


def promtool(*arguments: str | Path, text: str | None = None) -> None:
    program = shutil.which("promtool")
    with needed_programs():
        if program is None:
            raise Unavailable("promtool is not installed (apt-get install prometheus)")
    result = subprocess.run(
        [program, *map(str, arguments)], input=text, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_takes_the_alert_rules() -> None:
    promtool("check", "rules", ETC / "prometheus" / "scrubber.rules.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", ETC / "prometheus" / "scrubber.rules.test.yml")


def test_prometheus_has_nothing_to_say_about_the_names() -> None:
    text = metrics.exposition(metrics.registry(a_reading)).decode()
    promtool("check", "metrics", text=text)
