"""The connection to Glance's database."""

import datetime
import os

from oslo_config import cfg
from oslo_db.sqlalchemy import engines
from sqlalchemy import func, select
from sqlalchemy.engine import URL, Connection

from scrubber import errors, pool, sql


class Engine(sql.Database):
    """Transactions on Glance's database.

    :param stop: when set, nothing is tried again any more.
    """

    title = "the database"
    refused = errors.SourceError
    silent = errors.SourceUnavailable

    def __init__(self, options: cfg.ConfigOpts.GroupAttr, stop: pool.Flag) -> None:
        url = _url(options.connection)
        # Ours are the retries: oslo.db's own would hold up the first call for minutes.
        engine = engines.create_engine(
            url,
            max_retries=0,
            mysql_sql_mode=options.mysql_sql_mode,
            mysql_wsrep_sync_wait=options.mysql_wsrep_sync_wait,
            connection_recycle_time=options.connection_recycle_time,
            connection_debug=options.connection_debug,
            connection_parameters=options.connection_parameters,
            max_pool_size=options.max_pool_size,
            # A green thread waits for a connection sooner than it opens one: that costs
            # more than most queries, and databases have better uses for connections.
            max_overflow=0,
            # SQLite's pool has none, and oslo.db does not know that.
            pool_timeout=None if url.get_backend_name() == "sqlite" else options.pool_timeout,
            # Who waits for a server lets others run; only SQLite needs to be told.
            thread_checkin=url.get_backend_name() == "sqlite",
        )
        super().__init__(engine, "database", stop)

    def now(self, connection: Connection) -> datetime.datetime:
        """The database's clock, naive UTC; SQLite has none but ours."""
        if self.dialect == "sqlite":
            return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        clock = (
            func.timezone("utc", func.clock_timestamp())
            if self.dialect == "postgresql"
            else func.utc_timestamp(6)
        )
        now: datetime.datetime = connection.execute(select(clock)).scalar_one()
        return now

    @property
    def skips_locked(self) -> bool:
        """Whether the server knows SKIP LOCKED; without it a claim waits for another's."""
        if self.dialect == "postgresql":
            return True
        version = self._engine.dialect.server_version_info or (0,)
        if getattr(self._engine.dialect, "is_mariadb", False):
            return version >= (10, 6)
        return self.dialect == "mysql" and version >= (8, 0, 1)


def _url(connection: str | None) -> URL:
    """The URL with a driver that suits green threads.

    :raises ConfigError: no URL, or one with a driver that would stop all green threads.
    """
    url = sql.database_url(connection, "database", "copy it from glance-api.conf")
    # SQLite would create an empty database and find no images in it.
    if url.get_backend_name() == "sqlite" and url.database and not os.path.exists(url.database):
        raise errors.ConfigError(
            f"option connection in section [database]: there is no file {url.database}"
        )
    return url
