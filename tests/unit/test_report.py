"""The report of a run: its status, its document, and what people read."""

import datetime
import itertools
import json
from collections.abc import Callable

import pytest

from scrubber.model import Outcome
from scrubber.reporting import report as reports
from scrubber.reporting import text
from scrubber.reporting.document import print_report
from scrubber.reporting.report import EXAMPLES, REASONS, Pace, Report
from unit.values import a_candidate, a_location

STARTED = datetime.datetime(2026, 6, 1, 12, 0, 0, 123456)
FINISHED = datetime.datetime(2026, 6, 1, 12, 0, 5, 999999)


def new_report(rehearsal: bool = False) -> Report:
    times = itertools.chain([STARTED], itertools.repeat(FINISHED))
    return Report(lambda: next(times), rehearsal)


def record(report: Report, outcome: Outcome, reason: str = "", **options: object) -> None:
    report.record(a_candidate(), a_location(), "fast", outcome, reason, **options)  # type: ignore[arg-type]


def deleted(report: Report) -> None:
    record(report, Outcome.DELETED, bytes_freed=1)


def stuck_image(report: Report) -> None:
    report.scrubbed(a_candidate(), frozenset())


STATUSES: list[tuple[list[Callable[[Report], object]], str]] = [
    # what happened; the status
    ([], "succeeded"),
    ([deleted], "succeeded"),
    ([lambda r: record(r, Outcome.GONE)], "succeeded"),
    ([lambda r: record(r, Outcome.SHARED)], "succeeded"),
    ([lambda r: record(r, Outcome.EXTERNAL)], "succeeded"),
    # Somebody else has it, or restored it.
    ([lambda r: record(r, Outcome.LOST)], "succeeded"),
    # Not due yet is nothing left undone.
    ([lambda r: r.wait_until(FINISHED)], "succeeded"),
    # Whatever stays behind.
    ([lambda r: record(r, Outcome.FAILED)], "partial"),
    ([lambda r: record(r, Outcome.REFUSED)], "partial"),
    ([lambda r: record(r, Outcome.WAITING)], "partial"),
    ([deleted, lambda r: record(r, Outcome.WAITING)], "partial"),
    ([deleted, lambda r: r.alarm("a row was changed")], "partial"),
    # A run that could not go on.
    ([lambda r: setattr(r, "failure", "no database")], "failed"),
    ([lambda r: record(r, Outcome.FAILED), lambda r: setattr(r, "failure", "x")], "failed"),
    ([deleted, lambda r: setattr(r, "failure", "no database")], "partial"),
    ([stuck_image, lambda r: setattr(r, "failure", "no database")], "partial"),
    # A stop says more than what is left because of it.
    ([lambda r: setattr(r, "cancelled", True)], "cancelled"),
    ([deleted, lambda r: setattr(r, "cancelled", True)], "cancelled"),
]


@pytest.mark.parametrize(("happened", "status"), STATUSES)
def test_the_status_tells_the_truth(
    happened: list[Callable[[Report], object]], status: str
) -> None:
    report = new_report()
    for happen in happened:
        happen(report)
    assert report.status == "running"
    report.finish()
    assert report.status == status
    assert report.as_dict()["status"] == status


def test_the_document_has_the_keys_that_scripts_rely_on() -> None:
    report = new_report()
    candidate = a_candidate(owner="somebody")
    for outcome in Outcome:
        report.record(candidate, a_location(), "fast", outcome, "why", bytes_freed=0)
    report.record(candidate, a_location(), "slow", Outcome.DELETED, bytes_freed=10)
    report.scrubbed(candidate, frozenset({"fast", "slow"}))
    report.finish()
    document = json.loads(json.dumps(report.as_dict()))
    assert document["started_at"] == "2026-06-01T12:00:00Z"
    assert document["finished_at"] == "2026-06-01T12:00:05Z"
    assert document["images"]["scrubbed"] == 1
    assert document["bytes_freed"] == 10
    counts = {
        "gone": 1,
        "trashed": 1,
        "requested": 1,
        "shared": 1,
        "failed": 1,
        "waiting": 1,
        "refused": 1,
        "external": 1,
    }
    assert document["locations"] == {"deleted": 2, **counts}
    assert document["stores"]["fast"] == {
        "images": {"scrubbed": 1},
        "locations": {"deleted": 1, **counts},
        "bytes_freed": 0,
        "errors": {},
        "throttled": 0,
        "limit_per_second": None,
        "asked_again_in_seconds": 0,
    }
    assert document["stores"]["slow"]["locations"]["deleted"] == 1
    assert document["stores"]["slow"]["bytes_freed"] == 10
    assert document["owners"]["somebody"]["bytes_freed"] == 10
    assert document["dry_run"] is False
    assert document["error"] is None


def test_the_document_of_a_run_that_did_nothing_is_complete() -> None:
    report = new_report(rehearsal=True)
    document = report.as_dict()
    assert document["dry_run"] is True
    assert document["finished_at"] is None
    assert set(document["locations"]) >= {"deleted", "gone", "shared", "failed", "waiting"}
    assert set(document["locations"].values()) == {0}
    assert document["stores"] == {}
    report.finish()
    assert report.as_dict().keys() == document.keys()


def test_the_line_says_how_patient_a_store_wants_us_to_be() -> None:
    report = new_report()
    report.paces["swift"] = Pace(errors={"throttled": 40, "failed": 1}, limit=4.87)
    report.paces["slow"] = Pace(asked_again_in=29.7)
    report.paces["fast"] = Pace()
    report.finish()
    line = text.summary(report)
    assert "store swift asked for patience 40 times, and takes 4.87 locations/s now" in line
    assert "store slow is asked again in 30 s" in line
    assert "fast" not in line


def test_what_is_left_is_grouped_by_reason_with_examples() -> None:
    report = new_report()
    for number in range(EXAMPLES + 5):
        candidate = a_candidate(id=f"image-{number}", owner=None)
        report.record(candidate, a_location(id=number), "fast", Outcome.FAILED, "disk error")
    record(report, Outcome.FAILED, "another")
    first, second = report.as_dict()["left"]
    assert (first["outcome"], first["reason"], first["store"]) == ("failed", "disk error", "fast")
    assert first["locations"] == EXAMPLES + 5
    assert len(first["examples"]) == EXAMPLES
    assert first["examples"][0] == {"image": "image-0", "owner": None, "location": 0}
    assert second["locations"] == 1


def test_reasons_without_end_take_no_memory_without_end() -> None:
    report = new_report()
    for number in range(3 * REASONS):
        record(report, Outcome.FAILED, f"reason {number}")
    assert len(report.left) <= REASONS + 1
    assert sum(left.locations for left in report.left.values()) == 3 * REASONS


def test_of_many_that_are_not_due_the_next_is_named() -> None:
    report = new_report()
    for hours in (5, 2, 9):
        report.wait_until(STARTED + datetime.timedelta(hours=hours))
    document = report.as_dict()["not_due"]
    assert document == {"images": 3, "next_due_at": "2026-06-01T14:00:00Z"}


def test_a_candidate_that_is_never_due_can_be_told() -> None:
    report = new_report()
    report.wait_until(datetime.datetime.max)
    assert report.as_dict()["not_due"]["next_due_at"] == "9999-12-31T23:59:59Z"


def test_now_is_utc_and_naive() -> None:
    now = reports.utcnow()
    assert now.tzinfo is None
    assert abs(now - datetime.datetime.now(datetime.UTC).replace(tzinfo=None)) < (
        datetime.timedelta(minutes=1)
    )


SIZES = [
    (0, "0 B"),
    (1, "1 B"),
    (1023, "1023 B"),
    (1024, "1.0 KiB"),
    (1536, "1.5 KiB"),
    (1024**2, "1.0 MiB"),
    (5 * 1024**3, "5.0 GiB"),
    (1024**4, "1.0 TiB"),
    (2**53, "8.0 PiB"),
    (1024**6, "1.0 EiB"),
    (5000 * 1024**6, "5000.0 EiB"),
]


@pytest.mark.parametrize(("number", "expected"), SIZES)
def test_sizes_for_people(number: int, expected: str) -> None:
    assert text.size(number) == expected


@pytest.mark.parametrize(("number", "expected"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_counts_for_people(number: int, expected: str) -> None:
    assert text.counted(number, "image") == expected


def busy_report() -> Report:
    report = new_report()
    for outcome in Outcome:
        record(report, outcome, f"because of\n{outcome.value}")
    for number in range(10):
        record(report, Outcome.FAILED, f"reason {number}")
    report.scrubbed(a_candidate(), frozenset({"fast"}))
    report.wait_until(FINISHED)
    report.claimed_elsewhere = 2
    report.alarm("something\nthat must not be")
    report.failure = "the database\ndoes not answer"
    report.finish()
    return report


def test_the_summary_is_one_line_that_says_all() -> None:
    line = text.summary(busy_report())
    assert "\n" not in line
    for word in (
        "partial",
        "1 image scrubbed",
        "1 location deleted",
        "1 gone",
        "1 shared",
        "11 failed",
        "1 waiting",
        "1 image not due yet",
        "2 images claimed by another scrubber",
        "because of",
        "that must not be",
    ):
        assert word in line, word
    assert "lost" not in line


def test_the_summary_names_the_commonest_reasons() -> None:
    report = new_report()
    for number, reason in enumerate(["rare", "common", "commoner", "commonest"]):
        for _ in range(number + 1):
            record(report, Outcome.FAILED, reason)
    report.finish()
    line = text.summary(report)
    assert "4 failed: commonest" in line
    assert "2 failed: common" in line
    assert "rare" not in line


def test_the_summary_of_a_dry_run_promises_and_does_not_claim() -> None:
    report = new_report(rehearsal=True)
    record(report, Outcome.DELETED, bytes_freed=1024)
    report.scrubbed(a_candidate(), frozenset({"fast"}))
    report.finish()
    line = text.summary(report)
    assert "would scrub 1 image" in line
    assert "free 1.0 KiB" in line
    assert "freed" not in line


def test_the_progress_is_one_line() -> None:
    line = text.progress(busy_report())
    assert "\n" not in line
    assert "1 image scrubbed" in line
    assert "13 left" in line


def test_the_printed_report_shows_what_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = new_report(rehearsal=True)
    report.record(
        a_candidate(owner="[red]owner[/red]"),
        a_location(),
        "[bold]store",
        Outcome.FAILED,
        "reason [x]",
    )
    report.finish()
    print_report(report)
    printed = capsys.readouterr().out
    for word in ("[red]owner[/red]", "[bold]store", "reason [x]", text.summary(report)):
        assert word in printed


def test_an_empty_report_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    report = new_report()
    report.finish()
    print_report(report)
    assert capsys.readouterr().out.strip() == text.summary(report)
