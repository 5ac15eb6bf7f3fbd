"""``python -m bench.audit``: what a line of the audit trail costs, and a scrape of the metrics."""

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

from lab.scratch import ScratchDirectory
from scrubber.model import Backlog, Outcome, Settled
from scrubber.reporting import audit, metrics
from scrubber.reporting.metrics import Durations, Reading, StoreReading
from scrubber.reporting.totals import Totals

SETTLED = Settled(
    run="0123456789ab",
    image="11111111-2222-3333-4444-555555555555",
    owner="0123456789abcdef0123456789abcdef",
    store="fast",
    location=123456,
    size=1 << 30,
    outcome=Outcome.DELETED,
    reason="",
    attempts=0,
    seconds=0.0123,
)

#: So many locations are settled together.
BATCH = 250


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.audit", description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--stores", type=int, default=20, help="in the metrics")
    options = parser.parse_args()
    with ScratchDirectory("bench-") as directory:
        trail = audit.AuditTrail(audit.AuditFile(str(directory / "audit.log")))
        per_line = seconds_each(lambda: trail([SETTLED] * BATCH), options.lines // BATCH) / BATCH
        trail.close()
        assert lines_of(directory / "audit.log") == options.lines
    silent = audit.AuditTrail(level=logging.DEBUG)
    logging.getLogger("scrubber.audit").setLevel(logging.WARNING)
    per_silence = seconds_each(lambda: silent([SETTLED] * BATCH), options.lines // BATCH) / BATCH
    registry = metrics.registry(lambda: reading(options.stores))
    per_scrape = seconds_each(lambda: metrics.exposition(registry), 100)
    print(f"a line of the audit trail, into a file: {per_line * 1e6:.1f} µs")
    print(f"the same while nobody wants it:         {per_silence * 1e6:.1f} µs")
    print(f"a scrape with {options.stores} stores:                {per_scrape * 1e3:.1f} ms")


def seconds_each(work: Callable[[], object], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def lines_of(file: Path) -> int:
    with file.open() as lines:
        return sum(1 for _ in lines)


def reading(stores: int) -> Reading:
    names = [f"store{number}" for number in range(stores)]
    calls = Durations([0.01 * 2**at for at in range(13)], [5] * 14, 12.0)
    store = StoreReading(limit=10.0, errors={"throttled": 1, "failed": 2}, calls=calls, parked=3)
    return Reading(Totals(lambda: names), dict.fromkeys(names, store), backlog=Backlog(1, 2, 3.0))


if __name__ == "__main__":
    main()
