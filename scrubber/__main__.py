"""The console script: signals and green threads first, then everything else."""

import gc
import io
import signal
import sys

# Until the program listens, a signal that asks for no end must not bring it.
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)


def prepare() -> None:
    """What must be done before anything else is imported."""
    from scrubber import pool

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a store may have any name
    # Before anything imports sockets, locks or threads.
    pool.patch()


def main() -> int:
    # All that is imported stays: to look through it for what could go takes a while.
    gc.disable()
    prepare()
    from scrubber import cli

    gc.enable()
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
