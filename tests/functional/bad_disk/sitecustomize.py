"""Makes a Python program's file system slow or broken, as environment variables say.

Each unlink takes UNLINK_SECONDS first, then fails with UNLINK_ERROR, the name of an errno.
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
    if name := os.environ.get("UNLINK_ERROR"):
        raise OSError(getattr(errno, name), "as the test wants it")
    _unlink(*args, **kwargs)


os.unlink = _bad_unlink
