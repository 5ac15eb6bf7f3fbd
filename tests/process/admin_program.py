"""A process that serves the admin API of a control that only pretends, as a daemon would.

Its hub has other work to do; what that took at most is printed at the end.
"""

import sys
import time

from scrubber import pool

pool.patch()

from lab.fake_control import FakeControl  # noqa: E402 - sockets must be green first
from scrubber import config  # noqa: E402
from scrubber.admin.server import open_server  # noqa: E402

TICK = 0.005


def main() -> None:
    server = open_server(config.load(sys.argv[1:]), FakeControl())
    assert server is not None
    stop = pool.Flag()
    print("serving", flush=True)
    longest = 0.0
    while not stop:
        before = time.monotonic()
        pool.sleep(TICK)
        took = time.monotonic() - before
        if took > longest:
            longest = took
            print(f"longest tick {longest:.3f}", flush=True)


if __name__ == "__main__":
    main()
