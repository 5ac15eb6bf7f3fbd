"""A program whose green threads never get their turn, with scrubber's signal handlers."""

import ctypes
import sys

from scrubber import pool

pool.patch()

from scrubber import signals  # noqa: E402 - after the patch

signals.Handlers(pool.Flag(), grace=lambda: 0, reload=lambda: None)
print("busy", flush=True)


def never_its_turn() -> None:
    while True:
        pass


if sys.argv[1] == "python":
    never_its_turn()
ctypes.CDLL(None).sleep(60)  # in C: no Python code runs either
