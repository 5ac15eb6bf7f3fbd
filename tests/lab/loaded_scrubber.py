"""``scrubber`` with everything imported: forks for each command line that it is asked for.

Reads one request per line, with the arguments of ``run`` below, and answers each with the
exit status once that run is over.
"""

import gc
import json
import os
import runpy
import sys
import time

from scrubber import __main__ as program
from scrubber import pool

# Eventlet's would start its loop here, and every child would inherit it.
_wait = os.waitpid

pool.patch()

from scrubber import cli  # noqa: E402, F401 - what is to be loaded


def main() -> None:
    # Else each child would copy all of this memory when it collects garbage.
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        _, status = _wait(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(
    arguments: list[str],
    environment: dict[str, str],
    directory: str,
    script: str | None,
    stdout: str,
    stderr: str,
) -> None:
    """What the console script does, or another one, there and with these files."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(directory)
    become(0, os.devnull, os.O_RDONLY)
    become(1, stdout, os.O_WRONLY)
    become(2, stderr, os.O_WRONLY)
    sys.argv = [script or "scrubber", *arguments]
    if script:
        runpy.run_path(script, run_name="__main__")
    sys.exit(program.main())


def become(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags)
    os.dup2(opened, descriptor)
    os.close(opened)


if __name__ == "__main__":
    main()
