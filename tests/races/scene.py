"""Users, restores and scrubbers at a handful of images; and what must hold whatever they do.

Everything that decides is scrubber's own code: whole runs, the restorer, the database source on
SQLite, file stores.
"""

import datetime
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from sqlalchemy import event
from sqlalchemy.engine import Connection

from contract.sections import section
from contract.worlds import empty_database
from races.glance import EPOCH, Glance, Plan
from races.schedule import Process, Schedule, in_place_of_eventlet, step
from scrubber import config, errors, pool
from scrubber.health import Healths
from scrubber.model import Answer, Selection, Target
from scrubber.planning import naming
from scrubber.planning.due import Ages
from scrubber.planning.proof import Thresholds
from scrubber.planning.retry import Patience
from scrubber.reporting.report import Report, utcnow
from scrubber.restore import Restorer
from scrubber.run import Run, Settings
from scrubber.sources.engine import Engine
from scrubber.sources.restoring import RestoringSource
from scrubber.state.base import NoLedger
from scrubber.stores.file import FileDriver
from scrubber.stores.registry import Stores

T = TypeVar("T")

LEASE = 60.0
SETTINGS = Settings(
    ages=Ages(scrub_time=0, removed_location_age=LEASE),
    claim_lease=LEASE,
    call_timeout=5,
    page_size=2,
    thresholds=Thresholds(count=10, percent=10),
    ignore_unreadable_live=False,
    shutdown_timeout=60,
    patience=Patience(),
)

#: What happens to programs: scrubbers outlive their leases, restores do not hold the lock of
#: SQLite for longer than others have patience.
OF_SCRUBBERS = {"pauses": 200, "longest_pause": 3 * LEASE, "crashes": 400}
OF_RESTORES = {"pauses": 30, "longest_pause": 10.0, "crashes": 400}
#: One commit in so many gets no answer.
LOST_ANSWERS = 40

#: What users delete, restore and copy.  The third image also names the file of the second.
IMAGES: Plan = (
    (("fast", 0), ("slow", 0)),
    (("fast", 1),),
    (("slow", 2), ("fast", 1)),
    (("fast", 3), ("slow", 3)),
)
#: What nobody touches: it proves each store.
KEPT: Plan = ((("fast", 0), ("slow", 0)),)
STORES = ("fast", "slow")


class Violated(AssertionError):
    """A promise was not kept; with all that was done, in order."""


class _SteppedEngine(Engine):
    """Others may come between any two transactions, and a commit's answer may get lost."""

    schedule: Schedule

    def _transaction(self, work: Callable[[Connection], T], write: bool) -> T:
        step()
        result = super()._transaction(work, write)
        if write and self.schedule.happens(LOST_ANSWERS):
            step("got no answer to a commit, and does it once more")
            result = super()._transaction(work, write)
        step()
        return result

    def now(self, connection: Connection) -> datetime.datetime:
        """The database's clock is that of the schedule."""
        return (EPOCH + datetime.timedelta(seconds=self.schedule.now)).replace(tzinfo=None)


class _SteppedDriver(FileDriver):
    """Others may come between any two deletes of a batch."""

    deleted: Callable[[], None]

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> list[Answer]:
        answers: list[Answer] = []
        for target in targets:
            name = target.url.rpartition("/")[2][:8]
            step(f"is about to delete {name} in {self.store}")
            answers += super().delete([target], proceed)
            step(f"had for {name} in {self.store}: {answers[-1]!r}")
            self.deleted()
        return answers


def _excuse(failure: str) -> None:
    """Restores that are paused in a transaction hold up everybody else: SQLite has one lock."""
    if "database is locked" not in failure:
        raise Violated(failure)


class Playground:
    """A database and two stores, for one interleaving after the other."""

    def __init__(self, directory: Path) -> None:
        database = directory / "glance.sqlite"
        database.write_bytes(empty_database())
        file = directory / "scrubber.conf"
        file.write_text(f"[database]\nconnection = sqlite:///{database}\n")
        self.engine = _SteppedEngine(
            config.load(["--config-file", str(file)]).database, pool.Flag()
        )
        event.listen(self.engine._engine, "connect", _without_fsync)
        self.directories = {store: directory / store for store in STORES}
        self.drivers = [self._driver(store, path) for store, path in self.directories.items()]
        self.stores = Stores(self.drivers, {})
        self.rows = sqlite3.connect(database, timeout=0, isolation_level=None)
        _without_fsync(self.rows, None)

    def _driver(self, store: str, path: Path) -> _SteppedDriver:
        path.mkdir()
        return _SteppedDriver(section(FileDriver, store=store, filesystem_store_datadir=str(path)))

    def clear(self) -> None:
        for table in ("images", "image_locations", "image_properties"):
            self.rows.execute(f"DELETE FROM {table}")
        for directory in self.directories.values():
            for file in directory.iterdir():
                file.unlink()

    def close(self) -> None:
        self.rows.close()
        self.engine.close()


def _without_fsync(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")


@contextmanager
def playground(directory: Path) -> Iterator[Playground]:
    """Where interleavings are played; nothing else of scrubber runs in this process meanwhile."""
    chance = random.getstate()
    with (
        in_place_of_eventlet(),
        mock.patch("scrubber.stores.file._sync"),
        mock.patch.object(naming, "ENOUGH"),
    ):
        ground = Playground(directory)
        try:
            yield ground
        finally:
            ground.close()
            random.setstate(chance)


class Interleaving:
    """What comes of one seed.

    :ivar reports: of all runs that came to their end.
    :ivar counts: how often something happened that is worth a count.
    """

    def __init__(self, ground: Playground, seed: int) -> None:
        ground.clear()
        random.seed(seed)  # where scans start, and which live images are looked up
        self.seed = seed
        self.schedule = Schedule(seed)
        self.reports: list[Report] = []
        self.counts: Counter[str] = Counter()
        self._ground = ground
        self._chance = self.schedule.chance
        # Whether users of an object are found by an image's id, or in the index.
        naming.ENOUGH = 1 if seed % 2 else 100
        self._glance = Glance(ground.rows, ground.directories, self.schedule)
        self._kept = self._glance.make(KEPT)
        self._images = self._glance.make(IMAGES)
        self._deletes = Counter(dict.fromkeys(self._images, 0))
        for image in self._images:
            if self._chance.random() < 0.5:
                self._glance.delete_at_once(image)
        ground.engine.schedule = self.schedule
        for driver in ground.drivers:
            driver.deleted = self._check_live

    def play(self) -> None:
        """:raises Violated: a promise was not kept."""
        schedule = self.schedule
        parts = [
            ("user", self._use, {}),
            ("restore", self._restore, OF_RESTORES),
            ("init", self._keep_scrubbing, {}),
        ]
        try:
            schedule.run(
                *(
                    schedule.start(Process(f"{name} {number}", **faults), part)
                    for name, part, faults in parts
                    for number in range(2)
                )
            )
            schedule.calm_down()
            schedule.now += 2 * LEASE
            schedule.run(schedule.start(Process("last"), self._scrub))
            self._check_end()
        except Exception as failure:
            raise Violated(f"{failure!r}\n{self.story()}") from failure
        finally:
            schedule.close()

    def story(self) -> str:
        return "\n".join([f"seed {self.seed}:", *self.schedule.trace])

    # Who does what --------------------------------------------------------------------

    def _use(self) -> None:
        for _ in range(self._chance.randrange(1, 4)):
            self._sleep(10)
            image, store = self._chance.choice(self._images), self._chance.choice(STORES)
            (act,) = self._chance.choices(
                [
                    partial(self._delete, image),
                    partial(self._glance.remove, image, store),
                    partial(self._glance.copy, image, store),
                ],
                [4, 1, 1],
            )
            act()

    def _delete(self, image: str) -> None:
        if self._glance.is_active(image):
            self.counts["deleted"] += 1
            self._deletes[image] += 1
            self._glance.delete(image)

    def _restore(self) -> None:
        source = RestoringSource(self._ground.engine, None)
        restorer = Restorer(source, self._ground.stores, LEASE, SETTINGS.call_timeout)
        for _ in range(self._chance.randrange(1, 4)):
            self._sleep(10)
            image = self._chance.choice(self._images)
            before = self._deletes[image]
            try:
                restorer.restore(image, wait=self._chance.choice((0, 30)))
            except errors.ScrubberError as refused:
                if not isinstance(refused, errors.RestoreRefused):
                    _excuse(str(refused))
                self.schedule.say(f"does not restore {image[:8]}: {refused}")
                self.counts["refused"] += 1
                continue
            self.schedule.say(f"has restored {image[:8]}")
            self.counts["restored"] += 1
            if before == self._deletes[image] and not self._glance.is_active(image):
                raise Violated(f"{image} was said to be restored, and is not active")
            self._check_live()

    def _keep_scrubbing(self) -> None:
        """Another process after each, whether it crashed or not."""
        for _ in range(self._chance.randrange(1, 3)):
            self._sleep(10)
            process = Process(f"scrub {self._chance.randrange(100)}", **OF_SCRUBBERS)
            thread = self.schedule.start(process, self._scrub)
            while not thread.over:
                pool.sleep(1)
            if thread.failure is not None:
                raise thread.failure
            self.counts["crashed"] += process.dead

    def _scrub(self) -> None:
        slots = pool.Pool(2)
        run = Run(
            RestoringSource(self._ground.engine, None),
            self._ground.stores,
            slots,
            pool.Flag(slots.changed),
            Report(utcnow),
            settings=lambda: SETTINGS,
            selection=Selection(),
            accept_missing=frozenset(),
            healths=Healths(),
            ledger=NoLedger(),
        )
        self.reports.append(report := run.execute())
        slots.join()
        self.counts["runs"] += 1
        self.schedule.say(f"ended a run: {report.status} {report.failure or ''} {report.alarms}")

    def _sleep(self, most: float) -> None:
        pool.sleep(self._chance.random() * most)

    # What must hold -------------------------------------------------------------------

    def _check_live(self) -> None:
        """At any moment: what is active has its bytes."""
        for file in self._glance.live():
            if not file.is_whole:
                raise Violated(f"live image {file.image} lost {file.path}")

    def _check_end(self) -> None:
        self._check_live()
        for report in self.reports:
            for trouble in filter(None, [report.failure, *report.alarms]):
                _excuse(trouble)
        torn = self._glance.torn()
        if torn and self.reports[-1].status != "partial":
            raise Violated(f"nobody said that {torn} are torn")
        if not torn and self.reports[-1].status != "succeeded":
            raise Violated(f"the last run left {self.reports[-1].left}")
        if pending := self._glance.unfinished():
            raise Violated(f"not finished in the end: {pending}")
        if unused := {path for path in self._glance.unused() if path.name not in torn}:
            raise Violated(f"deleted, and still there: {unused}")
