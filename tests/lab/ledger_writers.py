"""Processes that open a state database and write into it, all at the same moment."""

import subprocess
import sys
from contextlib import ExitStack

_OPEN = """
import datetime, sys
from scrubber import pool
from scrubber.planning.retry import Trouble
from scrubber.state.base import Entry
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger

url, number = sys.argv[1], int(sys.argv[2])
now = datetime.datetime(2026, 1, 1)

def batch(start):
    return [
        Entry(at, f"{at:032x}", "fast", "p", 1, Trouble(1, now, now, "x"))
        for at in range(start, start + 1000)
    ]

print("ready", flush=True)
sys.stdin.readline()
ledger = SqlLedger(StateDatabase(url, pool.Flag()))
"""

_RECORD = """
for _ in range(3):
    ledger.record(batch(number * 1000))
    # What all of them touch, in another order each.
    shared = batch(0)
    ledger.record(shared if number % 2 else shared[::-1])
    ledger.retry(now)
ledger.close()
"""

#: Batches of 1,000 entries without end; a line for each that is committed.
ENDLESS = """
start = 0
while True:
    ledger.record(batch(start))
    start += 1000
    print(start, flush=True)
"""


def start(url: str, number: int, then: str = "") -> subprocess.Popen[str]:
    """A process that is ready to open the database; it does at the first line that it reads."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OPEN + then, url, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def migrate_at_once(url: str, processes: int) -> None:
    """Open it in so many processes together; all of them must succeed."""
    _together(url, processes, "")


def record_at_once(url: str, processes: int) -> None:
    """Likewise, and each records 1,000 entries of its own and those of the first, several times."""
    _together(url, processes, _RECORD)


def _together(url: str, processes: int, then: str) -> None:
    with ExitStack() as stack:
        running = []
        for number in range(processes):
            process = stack.enter_context(start(url, number, then))
            stack.callback(process.kill)
            running.append(process)
        for process in running:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
