"""Makes a Python program's file system slow or broken, as environment variables say.

Each unlink takes UNLINK_SECONDS first, and waits while there is a file UNLINK_GATE: what it waits
to delete stands in UNLINK_GATE.reached.  Then it fails with UNLINK_ERROR, the name of an errno.
Python imports this module at its start, before the program could make its sleeps green.
"""

import errno
import functools
import os
from time import sleep

_unlink = os.unlink


@functools.wraps(_unlink)
def _bad_unlink(*args, **kwargs):
    sleep(float(os.environ.get("UNLINK_SECONDS", "0")))
    if gate := os.environ.get("UNLINK_GATE"):
        _wait_before(gate, args[0])
    if name := os.environ.get("UNLINK_ERROR"):
        raise OSError(getattr(errno, name), "as the test wants it")
    _unlink(*args, **kwargs)


def _wait_before(gate, path):
    if os.path.exists(gate):
        with open(f"{gate}.new", "w") as file:
            file.write(os.path.basename(path))
        os.rename(f"{gate}.new", f"{gate}.reached")
    while os.path.exists(gate):
        sleep(0.02)


os.unlink = _bad_unlink
