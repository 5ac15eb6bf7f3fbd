"""One report of several workers' parts: everything is counted once."""

import datetime
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scrubber.model import Candidate, Image, Kind, Location, Outcome
from scrubber.reporting.merging import Part, failures, merge
from scrubber.reporting.report import EXAMPLES, REASONS, Pace, Report

NOW = datetime.datetime(2026, 1, 1)


def candidate(number: int, owner: str = "owner") -> Candidate:
    image = Image(f"image-{number}", owner, "pending_delete", True, 10, NOW, NOW, NOW)
    location = Location(number, image.id, "file:///x", "fast", "pending_delete", NOW, NOW, NOW)
    return Candidate(image, Kind.DELETED, (location,))


def new_report() -> Report:
    return Report(lambda: NOW, run="run")


def part_with(*settled: tuple[int, Outcome, str], store: str = "fast") -> Report:
    """A report of that many read and claimed images, each settled like that."""
    report = new_report()
    for number, outcome, reason in settled:
        its = candidate(number)
        for stage in (report.stages.read, report.stages.due, report.stages.claimed):
            stage.add([its])
        freed = 10 if outcome is Outcome.DELETED else 0
        report.record(its, its.locations[0], store, outcome, reason, freed)
        if outcome.done:
            report.scrubbed(its, frozenset({store}))
    return report


def part_of(report: Report, **more: Any) -> Part:
    """As it comes over the channel."""
    return Part(json.loads(json.dumps(report.as_dict())), **more)


OUTCOMES = st.sampled_from([Outcome.DELETED, Outcome.GONE, Outcome.REFUSED, Outcome.FAILED])
SETTLED = st.lists(st.tuples(st.integers(1, 10**6), OUTCOMES, st.sampled_from(["", "why", "?"])))


@given(SETTLED)
def test_a_single_part_stays_what_it_is(settled: list[tuple[int, Outcome, str]]) -> None:
    part, merged = part_with(*settled), new_report()
    merge(merged, [part_of(part)])
    assert merged.as_dict() == part.as_dict()


@given(SETTLED, SETTLED)
def test_what_two_have_done_is_the_sum(
    ones: list[tuple[int, Outcome, str]], others: list[tuple[int, Outcome, str]]
) -> None:
    together, merged = part_with(*ones, *others), new_report()
    merge(merged, [part_of(part_with(*ones)), part_of(part_with(*others))])
    assert merged.total == together.total
    assert merged.stores == together.stores
    assert merged.owners == together.owners
    assert {key: at.locations for key, at in merged.left.items()} == {
        key: at.locations for key, at in together.left.items()
    }
    assert merged.stages.claimed == together.stages.claimed


def test_rows_that_all_have_read_are_read_once() -> None:
    ones, others = part_with((1, Outcome.DELETED, "")), part_with((2, Outcome.DELETED, ""))
    for report, unseen in ((ones, 2), (others, 1)):
        report.stages.read.add([candidate(unseen)])
        report.not_due = 7
    merged = new_report()
    merge(merged, [part_of(ones), part_of(others)])
    assert merged.stages.read.images == 2
    assert merged.not_due == 7


def test_merging_again_counts_nothing_twice() -> None:
    parts, merged = [part_of(part_with((1, Outcome.FAILED, "no")))] * 1, new_report()
    merge(merged, parts)
    merge(merged, parts)
    assert merged.total.locations[Outcome.FAILED] == 1
    assert [left.locations for left in merged.left.values()] == [1]


def test_what_a_dead_worker_left_is_not_counted_but_what_it_did_is() -> None:
    dead = part_with((1, Outcome.DELETED, ""), (2, Outcome.FAILED, "no"))
    merged = new_report()
    merge(merged, [part_of(dead, lost=True)])
    assert merged.total.locations[Outcome.DELETED] == 1
    assert not merged.left


def test_what_a_colleague_has_is_not_elsewhere() -> None:
    merged = new_report()
    parts = [
        part_of(new_report(), elsewhere=frozenset(elsewhere))
        for elsewhere in ({"mine", "stranger"}, {"yours", "stranger"})
    ]
    merge(merged, [*parts, part_of(new_report(), lost=True)])
    assert merged.claimed_elsewhere == 1


def test_a_limit_is_that_of_all_and_none_if_one_has_none() -> None:
    def paced(limit: float | None, again: float) -> Part:
        report = part_with((1, Outcome.WAITING, "wait"))
        report.paces["fast"] = Pace({"throttled": 2}, limit, again)
        return part_of(report)

    merged = new_report()
    merge(merged, [paced(5, 0), paced(7, 30), paced(1, 20)])
    assert merged.paces["fast"] == Pace({"throttled": 6}, 13, 20)
    merge(merged, [paced(5, 0), paced(None, 0)])
    assert merged.paces["fast"].limit is None


def test_reasons_and_examples_stay_bounded() -> None:
    many = part_with(*((n, Outcome.FAILED, f"reason {n}") for n in range(REASONS)))
    others = part_with(*((n, Outcome.FAILED, f"other {n}") for n in range(3 * EXAMPLES)))
    merged = new_report()
    merge(merged, [part_of(many), part_of(others)])
    assert len(merged.left) == REASONS + 1
    rest = merged.left[Outcome.FAILED, "other reasons", ""]
    assert rest.locations == 3 * EXAMPLES
    assert len(rest.examples) == EXAMPLES


def test_each_failure_is_said_once() -> None:
    failed = new_report()
    failed.failure = "the database does not answer"
    assert failures([part_of(failed), part_of(failed), part_of(new_report())]) == failed.failure
    assert failures([part_of(new_report())]) is None


def test_the_next_due_image_is_the_first_of_all() -> None:
    early, late = new_report(), new_report()
    early.wait_until(NOW)
    late.wait_until(NOW + datetime.timedelta(hours=1))
    merged = new_report()
    merge(merged, [part_of(late), part_of(early)])
    assert merged.next_due_at == NOW


def test_every_count_of_a_report_is_merged() -> None:
    """A figure that is added to reports and forgotten here would show up as a difference."""
    report = part_with((1, Outcome.DELETED, ""), (2, Outcome.REFUSED, "odd"))
    report.stopped_stores = {"slow": "down"}
    report.paused_stores = ["cold"]
    report.alarm("look at it")
    report.wait_until(NOW)
    for stage in (report.stages.sent, report.stages.deleted, report.stages.recorded):
        stage.add([candidate(1)])
    merged = new_report()
    merge(merged, [part_of(report)])
    assert merged.as_dict() == report.as_dict()
