"""A store in memory: a full driver, and one that a test can script.

It passes the contract of drivers (test_drivers.py), so what a test proves with it holds
for any driver.
"""

import datetime
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from oslo_config import cfg

from contract.sections import section
from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Found, Look, Looks, Target
from scrubber.stores import base

LONG_AGO = datetime.datetime(2020, 1, 1)

_URL = re.compile(r"fake://(?:[^/@]*@)?(?P<place>[^/]+)/(?P<name>.+)")


@dataclass(frozen=True)
class FakeObject:
    size: int
    modified_at: datetime.datetime = LONG_AGO


class FakeDriver(base.Driver):
    """Holds ``fake://PLACE/NAME``; PLACE is the store's name unless it is a twin.

    A folder in the name is a root of its own, which has to prove itself.

    :param twin_of: a store that holds the same objects, in the same place.
    :param says_gone: if not, a delete of what is not there looks like any other, as in S3.
    """

    def __init__(
        self,
        store: str,
        *,
        twin_of: "FakeDriver | None" = None,
        batch: int = 8,
        connections: int | None = None,
        max_rate: float | None = None,
        says_gone: bool = True,
    ) -> None:
        super().__init__(
            section(
                FakeDriver,
                store=store,
                scrub_max_connections=connections,
                scrub_max_rate=max_rate,
            )
        )
        self.abilities = base.Abilities(  # type: ignore[misc] # each test has its own
            schemes=frozenset({"fake"}), blocks=False, batch=batch, says_gone=says_gone
        )
        self.place = twin_of.place if twin_of else store
        self.objects: dict[str, FakeObject] = twin_of.objects if twin_of else {}
        #: What is mounted there; None: nothing.
        self.mounted: object | None = object()
        #: What the store says of an object, in place of deleting it; raised if it is a bug.
        self.answers: dict[str, Answer | Exception] = {}
        #: Called with the names of each batch before anything is deleted; may wait or raise.
        self.before_delete: Callable[[list[str]], None] = lambda _names: None
        #: Called with the name of each object that is to be deleted.
        self.before_each: Callable[[str], None] = lambda _name: None
        self.before_look: Callable[[list[str]], None] = lambda _names: None
        #: The names of each batch, in the order in which they were sent.
        self.sent: list[list[str]] = []
        self.running = 0
        self.most_running = 0
        self._probed: object | None = None

    # For tests ------------------------------------------------------------------------

    def put(self, name: str, size: int = 1, modified_at: datetime.datetime = LONG_AGO) -> str:
        """An object; returns its URL."""
        self.objects[name] = FakeObject(size, modified_at)
        return self.url(name)

    def url(self, name: str) -> str:
        return f"fake://{self.place}/{name}"

    @property
    def asked_to_delete(self) -> list[str]:
        return [name for batch in self.sent for name in batch]

    # The contract ---------------------------------------------------------------------

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return []

    def probe(self) -> None:
        if self.mounted is None:
            raise errors.Unavailable(f"nothing is mounted at {self.place}")
        self._probed = self.mounted

    def root(self, url: str) -> str:
        return _root(self._name(url))

    def holds_something(self, root: str) -> bool:
        return any(_root(name) == root for name in self.objects)

    def identify(self, url: str) -> str:
        return f"fake:{self.place}/{self._name(url)}"

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [self._mentions(url) for url in urls]

    def _mentions(self, url: str) -> list[str]:
        try:
            return [self.identify(url)]
        except errors.Refused:
            return []

    def is_plain(self, url: str) -> bool:
        match = _URL.fullmatch(url)
        return match is not None and posixpath.normpath(match["name"]) == match["name"]

    def look(self, targets: Sequence[Target]) -> Looks:
        self._see_that_it_is_there()
        self.before_look([target.url for target in targets])
        return [self._look(target) for target in targets]

    def _look(self, target: Target) -> Look:
        try:
            name = self._name(target.url)
        except errors.Refused as refused:
            return refused
        if name not in self.objects:
            return base.Gone()
        there = self.objects[name]
        return Found(there.size, there.modified_at, fingerprint=f"{id(self.objects)}/{name}")

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            self._see_that_it_is_there()
            names = [target.url.split("/", 3)[-1] for target in targets]
            self.sent.append(names)
            self.before_delete(names)
            return [
                self._delete(target) if proceed() else errors.NotSent("not sent")
                for target in targets
            ]
        finally:
            self.running -= 1

    def _delete(self, target: Target) -> Answer:
        try:
            name = self._name(target.url)
        except errors.Refused as refused:
            return refused
        self.before_each(name)
        if name in self.answers:
            answer = self.answers[name]
            if isinstance(answer, Exception) and not isinstance(answer, errors.StoreError):
                raise answer
            return answer
        if name not in self.objects:
            return base.Gone() if self.abilities.says_gone else Deleted(target.size or 0)
        return Deleted(self.objects.pop(name).size)

    def _see_that_it_is_there(self) -> None:
        if self.mounted is None or self.mounted is not self._probed:
            raise errors.Unavailable(f"{self.place} was replaced since it was probed")

    def _name(self, url: str) -> str:
        match = _URL.fullmatch(url)
        if match is None or match["place"] != self.place:
            raise errors.Refused(f"not an object of store {self.store}")
        return posixpath.normpath(match["name"]).lstrip("/")


def _root(name: str) -> str:
    folder, slash, _ = name.partition("/")
    return folder if slash else ""
