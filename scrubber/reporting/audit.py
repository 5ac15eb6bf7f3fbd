"""The audit trail: a line of JSON for each location, saying what became of it.

Through a logger of its own, ``scrubber.audit``, into a file or to where the logs go.  A line
costs microseconds (``python -m bench.audit``), and whatever goes wrong with it stops no run.
"""

import datetime
import json
import logging
import logging.handlers
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg

from scrubber.model import Settled
from scrubber.options import PROJECT

LOG = logging.getLogger(__name__)

#: The logger of the trail.
AUDIT = logging.getLogger("scrubber.audit")

_MODE = 0o640

#: Lines are written together, but no more bytes than a pipe takes at once: so that lines of
#: several processes never mix.
_MOST_BYTES = 4096

# Control characters and all that is not ASCII as escapes: a reason can forge no line.
_text = json.encoder.encode_basestring_ascii


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

    def __call__(self, settled: Sequence[Settled]) -> None:
        """A line for each; all of them were settled just now."""
        if not AUDIT.isEnabledFor(self._level):
            return
        lines = audit_lines(settled, self._now())
        for message in _together(lines) if self._file else lines:
            # Without a look at the stack, which Logger.log takes half of its time for.
            AUDIT.handle(AUDIT.makeRecord(AUDIT.name, self._level, "", 0, message, (), None))

    def close(self) -> None:
        if self._file:
            AUDIT.removeHandler(self._file)
            AUDIT.propagate = True
            self._file.close()


def audit_lines(settled: Iterable[Settled], now: datetime.datetime) -> list[str]:
    """What became of locations, a line of JSON each: no URL, and no credential, is known here."""
    time = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [_line(each, time) for each in settled]


def _line(settled: Settled, time: str) -> str:
    # By hand in a third of json's own time: there is one for every location.
    owner = "null" if settled.owner is None else _text(settled.owner)
    size = "null" if settled.size is None else settled.size
    return (
        f'{{"time": "{time}", "run": {_text(settled.run)}, "image": {_text(settled.image)}, '
        f'"owner": {owner}, "store": {_text(settled.store)}, "location": {settled.location}, '
        f'"size": {size}, "outcome": {_text(settled.outcome.value)}, '
        f'"reason": {_text(settled.reason)}, "attempts": {settled.attempts}, '
        f'"seconds": {round(settled.seconds, 3)}}}'
    )


def _together(lines: Iterable[str]) -> Iterator[str]:
    """Lines that are written in one go."""
    some: list[str] = []
    room = _MOST_BYTES
    for line in lines:
        if some and len(line) >= room:
            yield "\n".join(some)
            some, room = [], _MOST_BYTES
        some.append(line)
        room -= len(line) + 1
    if some:
        yield "\n".join(some)


class AuditFile(logging.handlers.WatchedFileHandler):
    """A file that may be moved away at any time; the lines of a record are one write.

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
        lines = f"{record.getMessage()}\n".encode()
        written = 0
        try:
            self.reopenIfNeeded()
            written = self._write(lines)
            if written < len(lines):
                raise OSError("the disk took only a part of a line")
        except (OSError, ValueError) as error:  # ValueError: opening it anew failed before
            self._lose(lines[written:].count(b"\n"), error)
            return
        if self._failing:
            self._failing = False
            LOG.warning("The audit trail is written again; lines that were lost: %d", self.lost)

    def _write(self, lines: bytes) -> int:
        """Returns how much of it was written."""
        stream: Any = self.stream if self.stream is not None else self._reopened()
        # The end of a line that a full disk cut off.
        before = b"\n" if self._torn else b""
        written: int = stream.write(before + lines) or 0
        done = max(0, written - len(before))
        if written:
            self._torn = not lines[:done].endswith(b"\n") if done else False
        return done

    def _reopened(self) -> Any:
        self.stream = self._open()
        self._statstream()
        return self.stream

    def _lose(self, lines: int, error: Exception) -> None:
        self.lost += lines
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
