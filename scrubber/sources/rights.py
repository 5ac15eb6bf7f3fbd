"""What Glance's database server is, and what scrubber may do there: tried, and nothing changed."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, false, select, update
from sqlalchemy.engine import Connection

from scrubber import errors
from scrubber.sources.engine import Engine
from scrubber.sources.tables import BELONGINGS, IMAGES, LOCATIONS, METADATA

#: What a claim, a finish and a restore write.
_WRITTEN = {
    IMAGES.name: ("status", "deleted", "deleted_at", "updated_at"),
    LOCATIONS.name: ("status", "deleted", "deleted_at", "updated_at"),
    **{table.name: ("deleted", "deleted_at") for table in BELONGINGS},
}

_NAMES = {"mysql": "MySQL", "postgresql": "PostgreSQL", "sqlite": "SQLite"}


@dataclass(frozen=True, slots=True)
class Server:
    """A database server, and how scrubber's transactions go there.

    :param skips_locked: whether claims pass over rows that another scrubber is claiming.
    """

    name: str
    version: str
    isolation: str
    skips_locked: bool

    @property
    def is_file(self) -> bool:
        """One writer at a time, whatever the isolation."""
        return self.name == _NAMES["sqlite"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What cannot be done with one of Glance's tables.

    :param verb: ``SELECT`` or ``UPDATE``, which locking rows needs as well.
    """

    table: str
    verb: str
    reason: str

    @property
    def is_about_rights(self) -> bool:
        """Rather than about a table or a column that is not there."""
        return bool(re.search(r"denied|permission|read.?only|not allowed", self.reason, re.I))


def server(engine: Engine) -> Server:
    def work(connection: Connection) -> Server:
        dialect: Any = connection.dialect
        name = "MariaDB" if getattr(dialect, "is_mariadb", False) else _NAMES[dialect.name]
        version = ".".join(map(str, dialect.server_version_info or ("of unknown version",)))
        return Server(name, version, connection.get_isolation_level(), engine.skips_locked)

    return engine.read(work)


def refusals(engine: Engine) -> Iterator[Refusal]:
    """For each of Glance's tables the first right that scrubber needs and does not have.

    :raises SourceUnavailable: the server is gone.
    """
    for table in METADATA.sorted_tables:
        as_it_is = {name: table.c[name] for name in _WRITTEN[table.name]}
        reading = select(*table.c).limit(0)
        writing = update(table).where(false()).values(as_it_is)
        refusal = _refusal(table.name, "SELECT", engine.read, reading)
        refusal = refusal or _refusal(table.name, "UPDATE", engine.write, writing)
        if refusal is not None:
            yield refusal


def _refusal(
    table: str,
    verb: str,
    transaction: Callable[[Callable[[Connection], None]], None],
    statement: Executable,
) -> Refusal | None:
    """Why a statement that finds no row is not carried out; None if it is."""
    try:
        transaction(lambda connection: _try(connection, statement))
    except (errors.SourceError, errors.SourceUnavailable) as error:
        refusal = Refusal(table, verb, str(error).partition(": ")[2])
        if isinstance(error, errors.SourceUnavailable) and not refusal.is_about_rights:
            raise
        return refusal
    return None


def _try(connection: Connection, statement: Executable) -> None:
    connection.execute(statement)
    transaction = connection.get_transaction()
    assert transaction is not None
    transaction.rollback()
