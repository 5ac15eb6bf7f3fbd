"""The console script: signals and green threads first, then everything else."""

import gc
import io
import signal
import sys

# Until the program listens, a signal that asks for no end must not bring it.
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)

#: So many objects that may form cycles come up before anybody looks for some.  Rows come and go by
#: the thousand and form none: at Python's own 700 the looking is much of a run.
_COLLECTED_AFTER = 50_000


def prepare() -> None:
    """What must be done before anything else is imported."""
    gc.disable()  # all that is imported stays
    from scrubber import pool

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a store may have any name
    # Before anything imports sockets, locks or threads.
    pool.patch()


def collect_garbage() -> None:
    """From now on, of what comes up from now on: after the imports."""
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER)
    gc.enable()


def main() -> int:
    prepare()
    from scrubber import cli

    collect_garbage()
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
