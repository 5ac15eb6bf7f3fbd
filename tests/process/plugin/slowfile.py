"""A store of type ``slowfile``: a file store whose deletes take their time and are written down.

Found through its entry point, as a driver of somebody else's would be.
"""

import ctypes
import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from oslo_config import cfg

from scrubber import errors
from scrubber.model import Answer, Answers, Target
from scrubber.stores import base
from scrubber.stores.file import FileDriver

# A call in C that blocks its thread and nothing else: time.sleep is eventlet's here.
_LIBC = ctypes.CDLL(None)
_SLICE = 0.5
_FOREVER = 3600.0


class SlowFileDriver(FileDriver):
    """Sleeps before each delete, and notes in a journal when it begins and ends."""

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        self._options = options = section.options
        self._numbers = itertools.count(1)
        self._journal = os.open(
            options.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        if options.batch:
            self.abilities = replace(self.abilities, batch=options.batch, at_least=1)

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return [
            *super().options(),
            cfg.FloatOpt("seconds", default=0.0),
            cfg.StrOpt("journal"),
            cfg.IntOpt("batch", default=1),
            cfg.IntOpt("hang_after", default=1_000_000),
        ]

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        return [
            self._slowly(target) if proceed() else errors.NotSent("not sent") for target in targets
        ]

    def _slowly(self, target: Target) -> Answer:
        name = target.url.rpartition("/")[2]
        self._note("begin", name)
        left = self._options.seconds
        if next(self._numbers) > self._options.hang_after:
            left = _FOREVER
        while left > 0:
            _LIBC.usleep(int(min(left, _SLICE) * 1e6))
            left -= _SLICE
        (answer,) = super().delete([target], proceed=lambda: True)
        self._note("end", name)
        return answer

    def _note(self, what: str, name: str) -> None:
        os.write(self._journal, f"{time.monotonic()} {what} {name}\n".encode())

    def close(self) -> None:
        os.close(self._journal)
        super().close()
