"""The contract of ledgers on servers, which several hosts may share."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from conftest import NewDatabase
from contract.ledger_contract import *  # noqa: F403
from contract.ledger_contract import NewLedger, an_entry
from lab.databases import Database, MariaDB, PostgreSQL
from lab.ledger_writers import migrate_at_once, record_at_once
from scrubber import errors, pool
from scrubber.state.base import Ledger
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger

SERVERS = [MariaDB.name, PostgreSQL.name]


@pytest.fixture(params=SERVERS)
def state(request: pytest.FixtureRequest, new_database: NewDatabase) -> Database:
    return new_database(request.param, empty=True)


@pytest.fixture
def new_ledger(shared_state: Database) -> NewLedger:
    if tables(shared_state):
        with shared_state.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM scrubber_retries")
    return lambda: SqlLedger(StateDatabase(shared_state.url, pool.Flag()))


@pytest.fixture
def own_ledger(state: Database) -> Iterator[Ledger]:
    with closing(SqlLedger(StateDatabase(state.url, pool.Flag()))) as ledger:
        yield ledger


def tables(database: Database) -> set[str]:
    return set(sa.inspect(database.engine).get_table_names())


TABLES = {
    "scrubber_processes",
    "scrubber_retries",
    "scrubber_runs",
    "scrubber_stores",
    "scrubber_version",
}


@pytest.mark.parametrize("server", SERVERS)
def test_it_can_live_in_glances_own_database(server: str, new_database: NewDatabase) -> None:
    glance = new_database(server)
    with glance.engine.connect() as connection:
        before = connection.exec_driver_sql("SELECT version_num FROM alembic_version").all()
    others = tables(glance)
    for _ in range(2):
        ledger = SqlLedger(StateDatabase(glance.url, pool.Flag()))
        ledger.record([an_entry()])
        assert list(ledger.entries()) == [an_entry()]
        ledger.close()
    assert tables(glance) - others == TABLES
    with glance.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").all() == before


def test_processes_that_start_together_migrate_once(state: Database) -> None:
    migrate_at_once(state.url, 4)
    assert tables(state) == TABLES
    with state.engine.connect() as connection:
        assert len(connection.exec_driver_sql("SELECT * FROM scrubber_version").all()) == 1


def test_processes_that_record_together_lose_nothing(state: Database, own_ledger: Ledger) -> None:
    record_at_once(state.url, 3)
    assert len(list(own_ledger.entries())) == 3 * 1000
    with state.engine.connect() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM scrubber_retries").scalar()
    assert count == 3000


def test_a_table_without_its_version_is_made_good(state: Database, own_ledger: Ledger) -> None:
    """As a crash leaves it where CREATE TABLE cannot be undone."""
    own_ledger.record([an_entry()])
    with state.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM scrubber_version")
    again = SqlLedger(StateDatabase(state.url, pool.Flag()))
    assert list(again.entries()) == [an_entry()]
    again.close()


def test_a_password_is_in_no_message(state: Database) -> None:
    url = sa.make_url(state.url)
    wrong = url.set(password="wrong-secret").render_as_string(hide_password=False)
    with pytest.raises(errors.StateUnavailable) as refused:
        SqlLedger(StateDatabase(wrong, pool.Flag()))
    message = str(refused.value)
    assert f"{url.database} at 127.0.0.1" in message
    assert "wrong-secret" not in message
    assert "\n" not in message


def test_who_may_only_read_can_list(state: Database, own_ledger: Ledger) -> None:
    """And is told at once when it was opened for a run."""
    own_ledger.record([an_entry()])
    with state.engine.connect() as connection:
        on = connection.execution_options(isolation_level="AUTOCOMMIT")
        if state.server == PostgreSQL.name:
            on.exec_driver_sql("DROP ROLE IF EXISTS lister")
            on.exec_driver_sql("CREATE ROLE lister LOGIN PASSWORD 'lister'")
            on.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO lister")
        else:
            on.exec_driver_sql("CREATE OR REPLACE USER lister@'127.0.0.1' IDENTIFIED BY 'lister'")
            on.exec_driver_sql(f"GRANT SELECT ON {state.name}.* TO lister@'127.0.0.1'")
    url = sa.make_url(state.url).set(username="lister", password="lister")
    reading = url.render_as_string(hide_password=False)
    reader = SqlLedger(StateDatabase(reading, pool.Flag(), create=False))
    assert list(reader.entries()) == [an_entry()]
    with pytest.raises(errors.StateUnavailable, match="denied"):
        reader.retry(an_entry().trouble.next_try_at)
    reader.close()
    with pytest.raises(errors.StateUnavailable, match="denied"):
        SqlLedger(StateDatabase(reading, pool.Flag()))
