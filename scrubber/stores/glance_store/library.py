"""One store of glance_store's, whichever: it is made, asked and translated in the same way."""

import abc
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar

from oslo_config import cfg

from scrubber import errors, pool
from scrubber.model import Answer, Answers, Deleted, Found, Look, Looks, Target
from scrubber.stores import base
from scrubber.stores.glance_store.meanings import is_of_all, meaning

#: The section of single-store mode, in which glance_store's stores have no name.
_SINGLE_STORE = "glance_store"

#: What these say, with URLs and tracebacks, is said by us.
_TALKATIVE = (
    "cinderclient",
    "glance_store",
    "keystoneauth",
    "os_brick",
    "oslo_service",
    "oslo_vmware",
    "suds",
    "urllib3",
)

#: Seconds that connecting may take; less where call_timeout is.
CONNECT_SECONDS = 10.0


class GlanceStoreDriver(base.Driver):
    """One store, with one object of glance_store's for it, whose calls are green."""

    #: The name of glance_store's own driver, and of the extra that brings what it needs.
    kind: ClassVar[str]

    #: glance_store imports them without a word when they are missing.
    libraries: ClassVar[tuple[str, ...]]

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        with section.importing("glance_store", f"pip install scrubber[{self.kind}]"):
            store_class = _store_class(self.kind)
            for library in self.libraries:
                import_module(library)
            self._location_class = import_module("glance_store.location").Location
        self._backend = None if section.name == _SINGLE_STORE else section.name
        self._glance_store = store_class(section.conf, backend=self._backend)

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        try:
            return list(_store_class(cls.kind).OPTIONS)
        except ImportError:
            return []  # the constructor says so

    @classmethod
    def options_of_ours(cls) -> list[cfg.Opt]:
        return []  # glance-api.conf explains them

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [self._readings(url) for url in urls]

    def _readings(self, url: str) -> set[str]:
        """Every identity that the URL may stand for."""
        try:
            return {self.identify(url)}
        except errors.Refused:
            return set()

    def look(self, targets: Sequence[Target]) -> Looks:
        looks: list[Look] = []
        for target in targets:
            try:
                looks.append(self._look(target.url))
            except errors.Unavailable:
                raise
            except errors.StoreError as error:
                looks.append(error)
        return looks

    @abc.abstractmethod
    def _look(self, url: str) -> Found: ...

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        return base.one_by_one(targets, self._delete, proceed, is_of_all)

    def _delete(self, target: Target) -> Answer:
        """Let glance_store delete it.

        :raises StoreError: it did not.
        """
        self.identify(target.url)
        with self._translated():
            location = self._location(target.url)
            # glance_store waits for as long as it takes.
            pool.within(self.section.call_timeout(), self._glance_store.delete, location)
        return Deleted(target.size or 0)

    def _location(self, url: str) -> Any:
        """The URL as glance_store reads it."""
        return self._location_class(
            self.kind,
            self._glance_store.get_store_location_class(),
            self.section.conf,
            uri=url,
            backend=self._backend,
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the library raises, as what the caller may do next."""
        handled = sys.exception()  # it ends each chain of causes, and is none of them
        try:
            yield
        except Exception as error:
            raise meaning(error, handled) from None


def _store_class(kind: str) -> Any:
    """glance_store's class of that type, with all that talks beside it silenced.

    :raises ImportError: the library, or one that the class needs, is not installed.
    """
    for talker in _TALKATIVE:
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    for entry in entry_points(group="glance_store.drivers", name=kind):
        return entry.load()
    raise ImportError("it is not installed")
