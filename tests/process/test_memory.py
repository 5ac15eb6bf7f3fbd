"""Memory does not grow with the backlog."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.databases import Database
from process.program import Program
from process.rows import Backlog

#: With the smaller one, too, as many images are claimed at once as ever are: on a busy machine
#: ten thousand.
SMALL, LARGE = 20_000, 60_000
#: Some 400 bytes for each image more.
MOST_GROWTH_KIB = 16 * 1024


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_three_times_the_images_take_no_more_memory(
    program: Program, new_database: Callable[..., Database], tmp_path: Path
) -> None:
    peaks = [
        peak_memory(program, Backlog(new_database("sqlite"), tmp_path / str(count)), count)
        for count in (SMALL, LARGE)
    ]
    assert peaks[1] - peaks[0] < MOST_GROWTH_KIB, peaks


def peak_memory(program: Program, backlog: Backlog, images: int) -> int:
    """The most KiB that were ever in memory at once while a run deletes so many."""
    backlog.add_live(10)
    backlog.add_pending(images, content=b"")
    program.use(backlog)
    running = program.start()
    marks: list[int] = []
    while running.running:
        # A process's own mark, which unlike getrusage does not begin at its parent's.
        marks += high_water_mark(running.pid)
        time.sleep(0.02)
    assert running.wait().status == 0
    assert backlog.files() == set(backlog.live)
    return max(marks)


def high_water_mark(pid: int) -> list[int]:
    """In KiB; none of a process that is ending."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
