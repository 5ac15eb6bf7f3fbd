"""SQLite, MariaDB and PostgreSQL with Glance's schema: made once per server, copied per test."""

import abc
import getpass
import glob
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from lab import Unavailable
from lab.processes import LOCALHOST, Child, Service, accepts_connections, free_port
from lab.scratch import ScratchDirectory

# Neither UTC nor a whole hour from it: code that mixes up server time and UTC fails here.
SERVER_TIME_ZONE = "+05:30"

# Where distributions put programs that are not on everybody's PATH.
PROGRAM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")
POSTGRESQL_DIRECTORIES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")

TEMPLATE = "glance_template"


@dataclass(frozen=True)
class Database:
    """One database of a server; ``url`` is what ``[database] connection`` takes."""

    server: str
    name: str
    url: str

    @property
    def engine(self) -> sa.Engine:
        """A new engine without a pool: no connection stays open behind a test's back."""
        return sa.create_engine(self.url, poolclass=NullPool)


class Server(Service):
    """A database server; ``create_schema`` makes Glance's tables in an empty database."""

    name: ClassVar[str]

    def __init__(self, create_schema: Callable[[Database], None]) -> None:
        self._create_schema = create_schema

    @abc.abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers; Unavailable if it is not installed."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop it and remove everything it has written."""

    @abc.abstractmethod
    def create_database(self, name: str, *, empty: bool = False) -> Database:
        """A new database with Glance's tables, or with none."""

    @abc.abstractmethod
    def drop_database(self, database: Database) -> None:
        """Remove it, whoever may still be connected."""


class Sqlite(Server):
    """SQLite: no server, a file per database."""

    name = "sqlite"

    def __init__(self, create_schema: Callable[[Database], None]) -> None:
        super().__init__(create_schema)
        self._scratch: ScratchDirectory | None = None

    def start(self) -> None:
        self._scratch = ScratchDirectory(f"{self.name}-")

    def stop(self) -> None:
        if self._scratch is not None:
            self._scratch.close()

    def create_database(self, name: str, *, empty: bool = False) -> Database:
        database = self._database(name)
        if not empty:
            shutil.copyfile(self._template, self._file(name))
        return database

    def drop_database(self, database: Database) -> None:
        for file in self._directory.glob(f"{database.name}.db*"):
            file.unlink(missing_ok=True)

    @cached_property
    def _template(self) -> Path:
        self._create_schema(self._database(TEMPLATE))
        return self._file(TEMPLATE)

    @property
    def _directory(self) -> Path:
        assert self._scratch is not None, "not started"
        return self._scratch.path

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.db"

    def _database(self, name: str) -> Database:
        return Database(self.name, name, f"sqlite:///{self._file(name)}")


class _NetworkServer(Server):
    """What MariaDB and PostgreSQL have in common: a directory, a child, a port, a password."""

    driver: ClassVar[str]
    administration: ClassVar[str]
    user: ClassVar[str] = "lab"

    def __init__(self, create_schema: Callable[[Database], None]) -> None:
        super().__init__(create_schema)
        # The machine may have other users, and the server runs with our rights.
        self.password = secrets.token_hex(16)
        self.port = 0
        self._scratch: ScratchDirectory | None = None
        self._child: Child | None = None

    def start(self) -> None:
        self._check_installed()
        self._scratch = ScratchDirectory(f"{self.name}-", owner=self._account())
        self._install()
        self.restart()

    def restart(self) -> None:
        """Start it, after ``start()`` and ``halt()``, again on its data and its port."""
        self.port = self.port or free_port()
        self._child = self._launch()
        self._child.wait_ready(self._answers)

    def halt(self, number: signal.Signals | None = None) -> None:
        """End the process and keep the data; SIGKILL makes it a crash."""
        if self._child is not None:
            self._child.stop(number or self._stop_signal)

    def stop(self) -> None:
        self.halt()
        if self._scratch is not None:
            self._scratch.close()

    def database(self, name: str) -> Database:
        """The database of this name, whether it exists or not."""
        return Database(self.name, name, self.url(name))

    def url(self, name: str) -> str:
        return f"{self.driver}://{self.user}:{self.password}@{LOCALHOST}:{self.port}/{name}"

    def execute(self, *statements: str) -> None:
        """Run statements outside any transaction and any of our databases."""
        engine = sa.create_engine(
            self.url(self.administration), poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    _stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    @property
    def directory(self) -> Path:
        assert self._scratch is not None, "not started"
        return self._scratch.path

    def _answers(self) -> bool:
        if not accepts_connections(self.port):
            return False
        try:
            self.execute("SELECT 1")
        except sa.exc.OperationalError:
            return False
        return True

    def _account(self) -> str | None:
        """The user it runs as, if not ours."""
        return None

    @abc.abstractmethod
    def _check_installed(self) -> None: ...

    @abc.abstractmethod
    def _install(self) -> None: ...

    @abc.abstractmethod
    def _launch(self) -> Child: ...


class MariaDB(_NetworkServer):
    """A MariaDB server without any durability."""

    name = "mariadb"
    driver = "mysql+pymysql"
    administration = ""

    def create_database(self, name: str, *, empty: bool = False) -> Database:
        self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        database = self.database(name)
        if not empty:
            statements = self._template
            with database.engine.begin() as connection:
                connection.exec_driver_sql("SET foreign_key_checks = 0")
                for statement in statements:
                    connection.exec_driver_sql(statement.replace("%", "%%"))
        return database

    def drop_database(self, database: Database) -> None:
        self.execute(f"DROP DATABASE {database.name}")

    @cached_property
    def _template(self) -> list[str]:
        """The statements that make Glance's tables; CREATE TABLE … LIKE loses foreign keys."""
        template = self.create_database(TEMPLATE, empty=True)
        self._create_schema(template)
        with template.engine.connect() as connection:
            tables = connection.exec_driver_sql("SHOW TABLES").scalars().all()
            statements = [
                connection.exec_driver_sql(f"SHOW CREATE TABLE `{table}`").one()[1]
                for table in tables
            ]
        statements.append(
            f"INSERT INTO alembic_version SELECT * FROM {template.name}.alembic_version"
        )
        return statements

    def _check_installed(self) -> None:
        self._server = find_program("mariadbd", PROGRAM_DIRECTORIES)
        self._installer = find_program("mariadb-install-db", PROGRAM_DIRECTORIES)

    def _install(self) -> None:
        user = self._account() or getpass.getuser()
        # Root by socket only: the one account that the network sees has a password.
        _run(
            [
                self._installer,
                "--no-defaults",
                f"--user={user}",
                f"--datadir={self.directory}/data",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={user}",
                "--skip-test-db",
            ]
        )
        self._init_file.touch(mode=0o600)
        self._init_file.write_text(
            f"CREATE OR REPLACE USER {self.user}@'{LOCALHOST}' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {self.user}@'{LOCALHOST}' WITH GRANT OPTION;\n"
        )
        shutil.chown(self._init_file, user)

    @property
    def _init_file(self) -> Path:
        return self.directory / "init.sql"

    def _launch(self) -> Child:
        return Child(
            [self._server, *self._options()],
            log=self.directory / "log",
            directory=self.directory,
            user=self._account(),
        )

    def _options(self) -> list[str]:
        options = [
            "--no-defaults",
            f"--datadir={self.directory}/data",
            f"--bind-address={LOCALHOST}",
            f"--port={self.port}",
            f"--socket={self.directory}/socket",
            f"--pid-file={self.directory}/pid",
            f"--default-time-zone={SERVER_TIME_ZONE}",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--max-connections=300",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--innodb-doublewrite=0",
            "--innodb-buffer-pool-size=256M",
            "--innodb-fast-shutdown=2",
        ]
        if self._account() is None:
            options.append(f"--user={getpass.getuser()}")
        if self._init_file.exists():
            options.append(f"--init-file={self._init_file}")
        return options


class PostgreSQL(_NetworkServer):
    """A PostgreSQL server without any durability, run as user postgres if we are root."""

    name = "postgresql"
    # Named, because the default driver of postgresql:// has changed in SQLAlchemy 2.1.
    driver = "postgresql+psycopg2"
    administration = "postgres"
    # Fast shutdown: SIGTERM would wait for connections to end.
    _stop_signal = signal.SIGINT

    def create_database(self, name: str, *, empty: bool = False) -> Database:
        template = "template1" if empty else self._template.name
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.database(name)

    def drop_database(self, database: Database) -> None:
        self.execute(f"DROP DATABASE {database.name} WITH (FORCE)")

    @cached_property
    def _template(self) -> Database:
        template = self.create_database(TEMPLATE, empty=True)
        self._create_schema(template)
        return template

    def _account(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None

    def _check_installed(self) -> None:
        self._initdb = find_program("initdb", POSTGRESQL_DIRECTORIES)
        self._server = find_program("postgres", POSTGRESQL_DIRECTORIES)

    def _install(self) -> None:
        password = self.directory / "password"
        password.touch(mode=0o600)
        password.write_text(self.password)
        if (account := self._account()) is not None:
            shutil.chown(password, account)
        _run(
            [
                self._initdb,
                f"--pgdata={self.directory}/data",
                f"--username={self.user}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            user=self._account(),
            directory=self.directory,
        )

    def _launch(self) -> Child:
        options = {
            "listen_addresses": LOCALHOST,
            "unix_socket_directories": "",
            "max_connections": 200,
            # In the data directory: files in /dev/shm would outlive a server that is killed.
            "dynamic_shared_memory_type": "mmap",
            # The sign is inverted in POSIX names of zones.
            "timezone": f"<{SERVER_TIME_ZONE}>-{SERVER_TIME_ZONE.lstrip('+')}",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        return Child(
            [
                self._server,
                "-D",
                self.directory / "data",
                "-p",
                str(self.port),
                *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
            ],
            log=self.directory / "log",
            directory=self.directory,
            user=self._account(),
            # Immediate shutdown: SIGKILL would leave its shared memory behind.
            death_signal=signal.SIGQUIT,
        )


SERVERS: dict[str, type[Server]] = {kind.name: kind for kind in (Sqlite, MariaDB, PostgreSQL)}


class Servers:
    """The servers by name, each started by the first who asks for it."""

    def __init__(self, create_schema: Callable[[Database], None]) -> None:
        self._create_schema = create_schema
        self._started: dict[str, Server] = {}

    def get(self, name: str) -> Server:
        if name not in self._started:
            server = SERVERS[name](self._create_schema)
            server.start()
            self._started[name] = server
        return self._started[name]

    def stop(self) -> None:
        while self._started:
            self._started.popitem()[1].stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def find_program(name: str, directories: tuple[str, ...]) -> str:
    """The program's path, on PATH or in the newest of ``directories``, which may be patterns."""
    found = [place for pattern in directories for place in sorted(glob.glob(pattern), reverse=True)]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *found])
    program = shutil.which(name, path=path)
    if program is None:
        raise Unavailable(f"{name} is not installed")
    return program


def _run(argv: list[str | Path], *, user: str | None = None, directory: Path | None = None) -> None:
    """Run a program to its end; its output is shown only if it fails."""
    result = subprocess.run(
        argv,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with code {result.returncode}:\n{result.stdout}")
