"""Memory does not grow with the backlog."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.databases import Database
from process.program import Program
from process.rows import Backlog

SMALL, LARGE = 10_000, 100_000
MOST_GROWTH_KIB = 30 * 1024


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_times_the_images_take_no_more_memory(
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
    peak = 0
    # A process's own mark, which unlike getrusage does not begin at its parent's.
    while running.running and (line := high_water_mark(running.pid)):
        peak = int(line)
    assert running.wait().status == 0
    assert backlog.files() == set(backlog.live)
    return peak


def high_water_mark(pid: int) -> str | None:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return line.split()[1]
    return None  # it is ending
