"""``python -m bench.soak``: many wake-ups in a row, and what the daemon holds after each hundred.

It deletes a few images at each, has its configuration reloaded at every tenth, and is asked for
a run by signal at every third.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from lab.databases import SERVERS
from lab.glance import create_schema
from lab.processes import wait_until
from lab.scratch import ScratchDirectory
from process.held import Held, held_by
from process.program import Program, Running
from process.rows import Backlog

#: So many wake-ups until everything that is made once was made.
WARM_UP = 20

LIVE, PENDING = 50, 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--wakeups", type=int, default=1000)
    parser.add_argument("--database", choices=SERVERS, default="mariadb")
    options = parser.parse_args()
    server = SERVERS[options.database](create_schema)
    server.start()
    try:
        with ScratchDirectory("soak-") as directory:
            backlog = Backlog(server.create_database("soak"), directory / "store")
            return soak(directory, backlog, options.wakeups)
    finally:
        server.stop()


def soak(directory: Path, backlog: Backlog, wakeups: int) -> int:
    backlog.add_live(LIVE)
    program = Program(directory / "program", directory / "cache")
    program.use(backlog, kind="slowfile")
    program.configure(
        {
            "DEFAULT": {"wakeup_time": 0},
            "state": {"connection": f"sqlite:///{directory / 'state.sqlite'}"},
        }
    )
    running = program.start("--daemon")
    try:
        for number in range(WARM_UP):
            wake_up(running, backlog, number)
        print("wake-ups  descriptors  threads  connections  memory KiB", flush=True)
        before = show(running, 0)
        for number in range(1, wakeups + 1):
            wake_up(running, backlog, number)
            if number % max(1, wakeups // 10) == 0:
                after = show(running, number)
        running.child.send(signal.SIGTERM)
        assert running.wait().status == 0
        backlog.assert_scrubbed()
    finally:
        program.close()
    print(f"memory grew by {after.memory - before.memory} KiB in {wakeups} wake-ups")
    return 0 if after.countable == before.countable else 1


def wake_up(running: Running, backlog: Backlog, number: int) -> None:
    """One more run, which deletes a few images."""
    backlog.add_pending(PENDING)
    wanted = running.runs_ended() + 1
    if number % 3 == 0:
        running.child.send(signal.SIGUSR1)
    if number % 10 == 0:
        running.child.send(signal.SIGHUP)
    wait_until(lambda: running.runs_ended() >= wanted, what="the next run", every=0.1)


def show(running: Running, number: int) -> Held:
    time.sleep(0.2)  # what a run held is given back
    held = held_by(running.pid)
    print(
        f"{number:8}  {held.descriptors:11}  {held.threads:7}  {held.connections:11}"
        f"  {held.memory:10}",
        flush=True,
    )
    return held


if __name__ == "__main__":
    sys.exit(main())
