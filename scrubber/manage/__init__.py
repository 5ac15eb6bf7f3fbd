"""The program ``scrubber-manage``: to watch and steer scrubbers, and to see what is pending.

Exit status: 0 done, also if there was nothing to do; 1 could not; 2 wrong command line; of
``check`` and ``restore`` those that their help names.
"""

import sys


def main() -> int:
    """The console script.

    :raises SystemExit: for a wrong command line, --help and --version.
    """
    from scrubber import pool

    # Before anything imports sockets, locks or threads: some commands ask stores.
    pool.patch()
    from scrubber.manage import program

    return program.main(sys.argv[1:])
