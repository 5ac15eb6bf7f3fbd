"""The console script: signals and green threads first, then everything else."""

import signal
import sys

# Until the program listens, a reload signal must not kill it.
signal.signal(signal.SIGHUP, signal.SIG_IGN)


def main() -> int:
    from scrubber import pool

    # Before anything imports sockets, locks or threads.
    pool.patch()
    from scrubber import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
