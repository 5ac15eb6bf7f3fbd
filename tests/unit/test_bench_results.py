"""What the benchmarks say follows from what they measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import report
from bench.growth import SCAN, LiveImages, Pending, Tombstones
from bench.results import (
    LIMIT,
    SCRUBBER,
    UPSTREAM,
    Figure,
    Measured,
    Result,
    at_least,
    at_most,
    best_upstream,
    fastest,
    load,
    of,
    save,
    short,
)
from bench.rows import SPEED, WORKERS, Empty, Speed

FILE = next(row for row in SPEED if row.key == "file-mariadb")
SLOW = next(row for row in SPEED if row.key == "slow-64")


def measured(contender: str = SCRUBBER, images: int = 1000, seconds: float = 1, **more) -> Measured:
    values = {"pool": 16, "workers": 1, "turn": 0, "done": images, **more}
    return Measured(contender=contender, images=images, seconds=seconds, **values)


def said(figures: list[Figure]) -> dict[str, tuple[str, str]]:
    return {figure.what: (figure.said, figure.judged) for figure in figures}


# Rates ------------------------------------------------------------------------------------------


def test_a_rate_counts_what_is_gone_not_what_was_there() -> None:
    assert measured(images=1000, done=500, seconds=5).per_second == 100


def test_a_small_run_is_compared_as_a_large_one_with_one_start() -> None:
    few = measured(UPSTREAM, images=100, seconds=3, idle_seconds=1)
    # 20 ms each, and 1 s to start.
    assert few.per_second_at(100) == pytest.approx(100 / 3)
    assert few.per_second_at(19_950) == pytest.approx(49.875)


def test_nothing_is_made_of_a_run_that_was_hardly_longer_than_an_idle_one() -> None:
    short_run = measured(UPSTREAM, images=100, seconds=2.1, idle_seconds=2)
    assert short_run.per_second_at(20_000) == short_run.per_second


def test_a_run_shorter_than_an_idle_one_has_no_negative_time_per_image() -> None:
    assert measured(seconds=1, idle_seconds=2).seconds_each == 0


def test_nothing_done_is_no_division_by_zero() -> None:
    nothing = measured(images=10, done=0, cpu_seconds=1)
    assert nothing.per_second == 0
    assert nothing.cpu_each == 1


# Choosing ---------------------------------------------------------------------------------------


def test_of_all_turns_the_fastest_counts() -> None:
    turns = [measured(seconds=3, turn=0), measured(seconds=2, turn=1)]
    assert fastest(of(turns, SCRUBBER)) == turns[1]
    assert fastest([]) is None


def test_glance_scrubber_is_compared_at_its_best_pool_size() -> None:
    one = measured(UPSTREAM, images=100, seconds=10, pool=1)
    four = measured(UPSTREAM, images=100, seconds=5, pool=4)
    sixteen = measured(UPSTREAM, images=100, seconds=4, pool=16, done=10)
    assert best_upstream([one, four, sixteen, measured(seconds=0.1)], 1000) == four


# Judging ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "value", "judged"),
    [
        (at_least(60), 60.0, "≥ 60: met"),
        (at_least(60), 59.9, "≥ 60: **not met**"),
        (at_most(1.5), 1.5, "≤ 1.5: met"),
        (at_most(1.5), 1.6, "≤ 1.5: **not met**"),
        (None, 7.0, ""),
    ],
)
def test_a_figure_says_its_target_and_whether_it_is_met(target, value, judged) -> None:
    assert Figure("x", value, target).judged == judged


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.4, "0.4"),
        (0.404, "0.4"),
        (5.0, "5"),
        (9.876, "9.88"),
        (31.27, "31.3"),
        (150, "150"),
        (3456.7, "3,460"),
        (1_000_000, "1,000,000"),
        (-0.123, "-0.12"),
    ],
)
def test_numbers_have_three_digits(number, text) -> None:
    assert short(number) == text


def test_a_store_has_both_ratios() -> None:
    figures = FILE.figures(
        [
            measured(images=20_000, seconds=4),
            measured(LIMIT, images=20_000, seconds=1),
            measured(UPSTREAM, images=100, seconds=1),
        ]
    )
    assert said(figures) == {
        "of glance-scrubber's speed": ("50 x", "≥ 60 x: **not met**"),
        "of the limit": ("0.25", "≥ 0.4: **not met**"),
    }


def test_what_could_not_be_measured_is_left_out() -> None:
    assert FILE.figures([]) == []
    assert FILE.figures([measured(LIMIT)]) == []
    assert FILE.figures([measured(), measured(UPSTREAM, done=0)]) == []


def test_the_limit_of_a_slow_store_is_its_pool_by_its_latency() -> None:
    figures = said(SLOW.figures([measured(images=6400, seconds=10, pool=64)]))
    assert figures["of the limit"] == ("1", "≥ 0.95: met")


def test_two_workers_are_compared_with_one() -> None:
    one, two = measured(seconds=10), measured(seconds=5.5, workers=2)
    (figure,) = WORKERS[0].figures([one, two])
    assert (figure.said, figure.judged) == ("1.82 x", "≥ 1.7 x: met")


def test_an_empty_run_is_compared_by_its_seconds() -> None:
    runs = [measured(images=0, seconds=0.8), measured(UPSTREAM, images=0, seconds=2)]
    assert said(Empty().figures(runs))["of glance-scrubber's time"] == ("0.4", "≤ 0.5: met")


def test_tombstones_cost_what_a_run_without_them_does_not_take() -> None:
    def run(seconds: float, beside: int) -> Measured:
        return measured(seconds=seconds, beside=beside)

    def scan(seconds: float, beside: int) -> Measured:
        return measured(SCAN, seconds=seconds, beside=beside)

    row = Tombstones("tombstones", "among tombstones", "mariadb")
    figures = said(
        row.figures([run(2, 0), run(2.1, 10), run(5, 1000), scan(0.1, 10), scan(2, 1000)])
    )
    assert figures["scans that they cost"] == ("1.5", "≤ 1.5: met")


def test_growth_is_judged_where_starting_does_not_matter() -> None:
    def run(images: int, seconds: float, mib: float) -> Measured:
        return measured(images=images, seconds=seconds, peak_mib=mib, idle_seconds=1, beside=images)

    runs = [run(1_000, 3, 90), run(10_000, 11, 100), run(100_000, 131, 130)]
    figures = said(Pending().figures(runs))
    assert figures["peak memory"] == ("130 MiB", "≤ 150 MiB: met")
    assert figures["most memory over least"] == ("1.3", "≤ 1.2: **not met**")
    assert figures["most time per image over least"] == ("1.3", "≤ 1.2: **not met**")


def test_the_kernels_part_of_growth_is_told_apart() -> None:
    def run(images: int, own: float, kernel: float) -> Measured:
        return measured(
            images=images,
            done=images,
            seconds=own + kernel,
            peak_mib=100,
            cpu_seconds=own + kernel,
            kernel_seconds=kernel,
            beside=images,
        )

    runs = [run(0, 1, 1), run(10_000, 2, 1), run(100_000, 12, 20)]
    figures = said(Pending().figures(runs))
    assert figures["likewise of processor time, the kernel's apart"][0] == "1.1"


def test_the_live_check_is_a_share_of_the_run() -> None:
    runs = [measured(seconds=4, beside=1_000), measured(seconds=5, beside=1_000_000)]
    figures = said(LiveImages().figures(runs))
    assert figures["of a run is for 1,000,000 live images"] == ("20 %", "≤ 20 %: met")


# What is written --------------------------------------------------------------------------------

CONDITIONS = {
    "command": "python -m bench",
    "date": "2026-01-01T00:00+00:00",
    "commit": "0123456",
    "machine": "2 cores",
    "load": [0.1, 0.1, 0.1],
    "versions": {"python": "3.11"},
}


def test_what_was_measured_is_read_again_as_it_was(tmp_path: Path) -> None:
    known = {
        "file-mariadb": Result(CONDITIONS, [measured(server_cpu_seconds={"mariadbd": 1.5})], []),
        "s3": Result(CONDITIONS, [], ["the limit: it failed"]),
    }
    assert load(tmp_path / "results.json") == {}
    save(tmp_path / "into" / "results.json", known)
    assert load(tmp_path / "into" / "results.json") == known


def page_of(row: Speed, result: Result, directory: Path) -> str:
    return report.page([row, Empty()], {row.key: result}, directory)


def test_the_page_has_a_line_for_what_was_measured_and_names_what_failed(tmp_path: Path) -> None:
    runs = [measured(images=20_000, seconds=5), measured(images=20_000, seconds=4, turn=1)]
    page = page_of(FILE, Result(CONDITIONS, runs, ["the limit: ProgramFailed: no"]), tmp_path)
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {FILE.title} "))
    assert "5,000" in line
    assert "- file-mariadb: the limit: ProgramFailed: no" in page
    # Twice, the worst by a quarter longer than the best.
    assert "| 2 | 25% |" in page
    assert Empty().title not in page


def test_all_lines_of_a_table_have_as_many_cells(tmp_path: Path) -> None:
    known = {row.key: Result(CONDITIONS, [measured(pool=row.pool)]) for row in SPEED}
    known[SPEED[0].key] = replace(known[SPEED[0].key], measured=[])
    page = report.page(SPEED, known, tmp_path)
    tables = [part.splitlines() for part in page.split("\n\n") if part.startswith("|")]
    assert tables
    for lines in tables:
        assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
