"""The audit trail: a line of JSON for each location, saying what became of it.

Through a logger of its own, ``scrubber.audit``, into a file or to where the logs go.  A line
costs microseconds (``python -m bench.audit``), and whatever goes wrong with it stops no run.
"""

import datetime
import json
import logging
import logging.handlers
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oslo_config import cfg

from scrubber.model import Settled
from scrubber.options import PROJECT

LOG = logging.getLogger(__name__)

#: The logger of the trail.
AUDIT = logging.getLogger("scrubber.audit")

_MODE = 0o640

# Control characters and all that is not ASCII as escapes: a reason can forge no line.
_ENCODE = json.JSONEncoder(ensure_ascii=True, separators=(", ", ": ")).encode


class AuditTrail:
    """Writes a line for each location that is settled.

    :param file: where to; None: to where the logs go.
    :param level: at which the lines are logged.
    :param now: the time, aware.
    """

    def __init__(
        self,
        file: "AuditFile | None" = None,
        level: int = logging.INFO,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._file = file
        self._level = level
        self._now = now
        AUDIT.propagate = file is None
        if file:
            AUDIT.setLevel(level)  # whatever default_log_levels say
            AUDIT.addHandler(file)

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._file.lost if self._file else 0

    def __call__(self, settled: Settled) -> None:
        if AUDIT.isEnabledFor(self._level):
            line = audit_line(settled, self._now())
            # Without a look at the stack, which Logger.log takes half of its time for.
            AUDIT.handle(AUDIT.makeRecord(AUDIT.name, self._level, "", 0, line, (), None))

    def close(self) -> None:
        if self._file:
            AUDIT.removeHandler(self._file)
            AUDIT.propagate = True
            self._file.close()


def audit_line(settled: Settled, now: datetime.datetime) -> str:
    """What became of a location, as one line of JSON: no URL, and no credential, is known here."""
    return _ENCODE(
        {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "run": settled.run,
            "image": settled.image,
            "owner": settled.owner,
            "store": settled.store,
            "location": settled.location,
            "size": settled.size,
            "outcome": settled.outcome.value,
            "reason": settled.reason,
            "attempts": settled.attempts,
            "seconds": round(settled.seconds, 3),
        }
    )


class AuditFile(logging.handlers.WatchedFileHandler):
    """A file that may be moved away at any time; each line is one write.

    So lines of several processes never mix, and none is lost with a process that is killed.
    What cannot be written is counted, and said once until it goes well again.

    :ivar lost: lines that could not be written.
    """

    def __init__(self, path: str) -> None:
        self.lost = 0
        self._failing = False
        self._torn = False
        super().__init__(path)

    def _open(self) -> Any:
        # Without O_NONBLOCK a pipe that nobody reads would be waited for.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        return os.fdopen(os.open(self.baseFilename, flags, _MODE), "ab", buffering=0)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.reopenIfNeeded()
            self._write(f"{record.getMessage()}\n".encode())
        except (OSError, ValueError) as error:  # ValueError: opening it anew failed before
            self._lose(error)
            return
        if self._failing:
            self._failing = False
            LOG.warning("The audit trail is written again; lines that were lost: %d", self.lost)

    def _write(self, line: bytes) -> None:
        stream: Any = self.stream if self.stream is not None else self._reopened()
        # The end of a line that a full disk cut off.
        whole = b"\n" + line if self._torn else line
        written = stream.write(whole)
        if written != len(whole):
            self._torn = self._torn or bool(written)
            raise OSError("the disk took only a part of a line")
        self._torn = False

    def _reopened(self) -> Any:
        self.stream = self._open()
        self._statstream()
        return self.stream

    def _lose(self, error: Exception) -> None:
        self.lost += 1
        if not self._failing:
            self._failing = True
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            LOG.warning(
                "Scrubbing goes on without an audit trail, which cannot be written to %s (option "
                "audit_file in section [%s]): %s",
                self.baseFilename,
                PROJECT,
                why,
            )


def open_trail(conf: cfg.ConfigOpts, is_daemon: bool) -> AuditTrail:
    """The trail that option audit_file describes.

    Without a file, only a daemon says all this in its log: nobody wants it in the mail that
    cron sends of a single run.
    """
    path = conf[PROJECT].audit_file
    level = logging.INFO if is_daemon else logging.DEBUG
    if not path or (_is_default(conf) and not Path(path).parent.is_dir()):
        return AuditTrail(level=level)
    try:
        return AuditTrail(AuditFile(path))
    except OSError as error:
        LOG.warning(
            "The audit trail goes to the log, since %s cannot be written (option audit_file in "
            "section [%s]): %s",
            path,
            PROJECT,
            error.strerror,
        )
        return AuditTrail(level=level)


def _is_default(conf: cfg.ConfigOpts) -> bool:
    where = conf.get_location("audit_file", group=PROJECT)
    return where is not None and where.location is cfg.Locations.opt_default
