"""A store of type ``slow``: files, each of whose deletes takes its time, as over a network.

Found through its entry point, as a driver of somebody else's would be.
"""

import os
import time
from collections.abc import Callable, Sequence

from oslo_config import cfg

from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Target
from scrubber.stores import base
from scrubber.stores.file import FileDriver


class SlowDriver(FileDriver):
    """Waits in a green thread, one delete in each call."""

    abilities = base.Abilities(
        schemes=frozenset({"file", "filesystem"}), blocks=False, batch=1, seconds=0.5
    )

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return [*super().options(), cfg.FloatOpt("seconds", default=0.0)]

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        if not proceed():
            return [errors.NotSent("not sent") for _ in targets]
        # Eventlet's here: only this green thread sleeps.
        time.sleep(self.section.options.seconds)
        return [self._removed(target) for target in targets]

    def _removed(self, target: Target) -> Answer:
        """Without the wait for a disk: the store that it stands for has its disks elsewhere."""
        os.unlink(target.url.removeprefix("file://"))
        return Deleted(target.size or 0)
