"""The source that the configuration names, found by entry point."""

from collections.abc import Callable
from typing import Any, TypeVar

import stevedore.exception
from oslo_config import cfg
from stevedore.driver import DriverManager
from stevedore.extension import ExtensionManager

from scrubber import errors, pool
from scrubber.options import PROJECT
from scrubber.sources.base import Source
from scrubber.sources.database import DatabaseSource
from scrubber.sources.engine import Engine
from scrubber.sources.rehearsal import RehearsalSource
from scrubber.sources.restoring import RestoringSource

NAMESPACE = "scrubber.sources"

#: So long a source that takes connections and then says nothing is waited for at start.
_START_SECONDS = 12.0

S = TypeVar("S", bound=Source)

#: What an entry point names; the last argument is whether nothing may be written.
Opener = Callable[[cfg.ConfigOpts, pool.Flag, bool], Source]


def open_source(conf: cfg.ConfigOpts, stop: pool.Flag, *, rehearsal: bool = False) -> Source:
    """The source of option ``source``, looked at whether it can be used.

    :param stop: when set, a source that does not answer is not asked again.
    :param rehearsal: for a dry run: it writes nothing.
    :raises ConfigError: there is no such source, or its options cannot be used.
    :raises SourceError: it cannot be used as it is.
    :raises SourceUnavailable: it does not answer.
    """
    name: str = conf[PROJECT].source
    return _checked(_opener(name)(conf, stop, rehearsal), name)


def open_for_restore(conf: cfg.ConfigOpts, stop: pool.Flag) -> RestoringSource:
    """Likewise, Glance's database as a restore needs it."""
    source = RestoringSource(Engine(conf.database, stop), conf.metadata_encryption_key)
    return _checked(source, "database")


def open_database(conf: cfg.ConfigOpts, stop: pool.Flag, rehearsal: bool) -> DatabaseSource:
    """Glance's database, not looked at yet; an entry point."""
    kind = RehearsalSource if rehearsal else DatabaseSource
    return kind(Engine(conf.database, stop), conf.metadata_encryption_key)


def _checked(source: S, name: str) -> S:
    try:
        pool.within(_START_SECONDS, source.check)
    except TimeoutError as late:
        source.close()
        raise errors.SourceUnavailable(f"the {name} does not answer: {late}") from None
    except BaseException:
        source.close()
        raise
    return source


def _opener(name: str) -> Opener:
    try:
        found: Any = DriverManager(NAMESPACE, name, warn_on_missing_entrypoint=False).driver
    except stevedore.exception.NoMatches:
        known = sorted(ExtensionManager(NAMESPACE, invoke_on_load=False).names())
        raise errors.ConfigError(
            f"option source in section [{PROJECT}]: there is no {name}; known are "
            f"{', '.join(known)}"
        ) from None
    opener: Opener = found
    return opener
