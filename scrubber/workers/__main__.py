"""The program of a worker process; its supervisor starts it, and nobody else."""

import sys

from scrubber import __main__ as program


def main() -> int:
    program.prepare()
    from scrubber.workers import worker

    program.collect_garbage()
    return worker.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
