"""The tables of the state database, made and brought up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Column, MetaData, String, Table, func, inspect, select
from sqlalchemy.engine import Connection

from scrubber import errors, sql

MIGRATIONS = Path(__file__).with_name("migrations")

#: Alembic's, under a name of our own: other programs that use it may share the database.
VERSION = Table("scrubber_version", MetaData(), Column("version_num", String(32)))

#: So long another process's migration is waited for.
_LOCK_SECONDS = 10
_LOCK_NAME = "scrubber_state"
_LOCK_NUMBER = 0x7363727562626572  # PostgreSQL's locks have numbers: "scrubber"


def bring_up_to_date(database: sql.Database, create: bool, migrations: Path = MIGRATIONS) -> None:
    """Do the steps that are still to be done, each once, however many processes start together.

    :param create: also when there is nothing yet.
    :raises StateMissing: there is nothing, and nothing was to be made.
    :raises StateUnavailable: it was written by a newer scrubber.
    """
    known = _known(migrations)
    # Read first: whoever may only read can do so when nothing is to be done.
    found = database.read(_version)
    if found is None and not create:
        raise errors.StateMissing(f"{database.title} holds nothing of scrubber's yet")
    if found is not None and found not in known:
        raise errors.StateUnavailable(
            f"{database.title} has version {found}, and this scrubber knows versions up to "
            f"{known[-1]}: upgrade scrubber on this host too"
        )
    if found != known[-1]:
        database.write(lambda connection: _upgrade(connection, migrations))


def _known(migrations: Path) -> list[str]:
    """The versions, oldest first: a step's file begins with its revision."""
    return sorted(path.name[1:5] for path in migrations.glob("v????_*.py"))


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION.name):
        return None
    return max(connection.execute(select(VERSION.c.version_num)).scalars(), default=None)


def _upgrade(connection: Connection, migrations: Path) -> None:
    # Not at every start: it takes longer to load than all the rest of this package.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    steps = ScriptDirectory(str(migrations), version_locations=[str(migrations)])
    context = MigrationContext.configure(connection, opts={"version_table": VERSION.name})
    with _alone(connection), Operations.context(context):
        # Read again: another process may have been faster.
        missing = steps.iterate_revisions("head", _version(connection) or "base")
        for step in reversed(list(missing)):
            step.module.upgrade()
            context.stamp(steps, step.revision)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Keep other processes from migrating; SQLite's writers are alone as it is."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK_NUMBER)))
        yield
    elif connection.dialect.name in ("mysql", "mariadb"):
        # Not by rows: every CREATE TABLE commits. The name holds for the whole server.
        name = func.left(func.concat(_LOCK_NAME, ".", func.database()), 64)
        if not connection.execute(select(func.get_lock(name, _LOCK_SECONDS))).scalar():
            raise errors.StateUnavailable("another process has long been changing its tables")
        try:
            yield
            # Whoever has the lock next must see the version, not wait for its row.
            connection.exec_driver_sql("COMMIT")
        finally:
            connection.execute(select(func.release_lock(name)))
    else:
        yield
