"""A real Glance API server, its command line tools, and what tests do with them.

Glance lives in an environment of its own (``SCRUBBER_GLANCE_PYTHON``, by default the one
that ``tox -e glance`` makes): here it is only reached through its API and as processes.
"""

import io
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from glanceclient import exc as glance_errors
from glanceclient.v2.client import Client
from keystoneauth1 import noauth
from keystoneauth1 import session as keystone

from lab import Unavailable
from lab.databases import Database
from lab.processes import LOCALHOST, Child, Service, accepts_connections, free_port, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE_GLANCE = Path(__file__).with_name("inside_glance.py")

# No modules from the script's or the current directory: this file's name would hide Glance.
ISOLATED = ("-P",)

ADMIN_ROLES = ("admin", "member", "reader")
MEMBER_ROLES = ("member", "reader")

# Section to option to value, as in an oslo.config file.
Options = Mapping[str, Mapping[str, object]]

PASTE = """\
[composite:glance-api]
paste.composite_factory = glance.api:root_app_factory
/: api

[composite:api]
paste.composite_factory = glance.api:pipeline_factory
default = versionnegotiation context rootapp

[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app

[app:apiversions]
paste.app_factory = glance.api.versions:create_resource

[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory

[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory

[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
"""

# glance-scrubber --restore refuses to run beside any process that has its name in its command
# line, which is a matter of what else this machine does, and needs pgrep.
UPSTREAM_SCRUBBER = """\
from glance.cmd import scrubber
scrubber.scrubber_already_running = lambda: False
scrubber.main()
"""


@dataclass(frozen=True)
class Backend:
    """A store that is no directory: its type, and the options in its section."""

    kind: str
    options: Mapping[str, object] = field(repr=False)


class Glance(Service):
    """One Glance: configuration, file stores, and an API process while it is started.

    ``stores`` maps store ids to data directories, the first is the default; a single
    directory instead makes a Glance in single-store mode, without ``enabled_backends``.
    ``backends`` are further stores, by store id, on servers of their own.
    ``options`` are added to glance-api.conf and override what is there.
    """

    def __init__(
        self,
        directory: Path,
        database: Database,
        stores: Mapping[str, Path] | Path,
        *,
        delayed_delete: bool = True,
        metadata_encryption_key: str | None = None,
        backends: Mapping[str, Backend] | None = None,
        options: Options | None = None,
    ) -> None:
        self.directory = directory
        self.database = database
        self.stores = stores
        self.backends = backends or {}
        self.delayed_delete = delayed_delete
        self.metadata_encryption_key = metadata_encryption_key
        self.log = directory / "glance-api.log"
        self._python = glance_python()
        self._port = free_port()
        self._child: Child | None = None
        self._configure(options or {})

    # The process

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self._port}"

    def start(self) -> None:
        """Start the API and wait until it answers; again after ``stop()``, on the same port."""
        self._child = Child(
            [
                self._python,
                *ISOLATED,
                "-m",
                "waitress",
                f"--listen={LOCALHOST}:{self._port}",
                "--threads=8",
                "glance.wsgi.api:application",
            ],
            log=self.log,
            environment=self._environment,
            directory=self.directory,
        )
        self._child.wait_ready(lambda: accepts_connections(self._port))

    def stop(self) -> None:
        if self._child is not None:
            # Glance waits at exit for its own threads; nothing here needs that.
            self._child.stop(seconds=3)

    # The API

    @cached_property
    def admin(self) -> Client:
        return self.client(project="admin", user="admin", roles=ADMIN_ROLES)

    def client(
        self,
        project: str = "project",
        user: str = "user",
        roles: Sequence[str] = MEMBER_ROLES,
    ) -> Client:
        """A python-glanceclient that is this user, as far as Glance can tell."""
        headers = {
            "X-Identity-Status": "Confirmed",
            "X-Project-Id": project,
            "X-User-Id": user,
            "X-Roles": ",".join(roles),
        }
        session = keystone.Session(
            auth=noauth.NoAuth(endpoint=self.url), additional_headers=headers, timeout=60
        )
        return Client("2", session=session, endpoint_override=self.url)

    def upload(
        self,
        client: Client,
        data: bytes,
        *,
        name: str = "image",
        visibility: str = "shared",
        store: str | None = None,
        **properties: object,
    ) -> str:
        """Create an active image of these bytes and return its id."""
        image = client.images.create(
            name=name,
            disk_format="raw",
            container_format="bare",
            visibility=visibility,
            **properties,
        )
        client.images.upload(image.id, io.BytesIO(data), backend=store)
        return str(image.id)

    def copy_to(self, image_id: str, store: str) -> None:
        """Give the image a second copy in this store, and wait until it is there."""
        self.admin.images.image_import(
            image_id, method="copy-image", stores=[store], allow_failure=False
        )

        def copied() -> bool:
            image = self.admin.images.get(image_id)
            if store in (image.get("os_glance_failed_import") or "").split(","):
                raise RuntimeError(f"Glance could not copy {image_id} to {store}; see {self.log}")
            # The import still saves the image after the copy is listed, until it drops its lock.
            return store in image["stores"].split(",") and not image.get("os_glance_import_task")

        wait_until(copied, what=f"copy of {image_id} in {store}", every=0.05)

    def remove_location(self, image_id: str, store: str) -> None:
        """Remove the image's copy in this store; it needs another one."""
        self.admin.images.delete_from_store(store, image_id)

    def delete(self, image_id: str, client: Client | None = None) -> None:
        """Delete the image: with delayed_delete it becomes pending_delete."""
        (client or self.admin).images.delete(image_id)

    def download(self, image_id: str, client: Client | None = None) -> bytes | None:
        """The image's bytes, their checksum verified; None if there is no image or no data."""
        try:
            body = (client or self.admin).images.data(image_id)
        except glance_errors.HTTPNotFound:
            return None
        return None if body.wrapped is None else b"".join(body)

    def locations(self, image_id: str) -> list[dict[str, Any]]:
        """The active locations as the API shows them: ``url`` and ``metadata``.

        There is no ``add_location``: Glance refuses file:// URLs whichever way they are added
        (PATCH of the image or POST to its locations). ``python()`` can stage such rows.
        """
        return list(self.admin.images.get(image_id)["locations"])

    # The command line

    def manage(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run glance-manage on this database."""
        return self._run("-m", "glance.cmd.manage", "--config-file", self.configuration, *args)

    def run_upstream_scrubber(
        self, *args: str, options: Options | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run Glance's own glance-scrubber, which exits 0 whatever happens to the bytes."""
        file = self.write_scrubber_configuration(
            self.directory / "etc" / "glance-scrubber.conf", options
        )
        return self._run("-c", UPSTREAM_SCRUBBER, "--config-file", file, *args)

    def python(self, script: str, *args: str) -> str:
        """Run Python inside Glance, with this configuration loaded, and return what it prints.

        The script finds ``CONF``, ``args``, ``context`` (an administrator's), ``db`` (the
        database API, ``glance.db.sqlalchemy.api``) and ``images`` (the repository of image
        objects that the API itself uses).  RuntimeError with the traceback if it raises.
        """
        result = self._run(INSIDE_GLANCE, self.configuration, script, *args)
        if result.returncode != 0:
            raise RuntimeError(f"script in Glance failed:\n{result.stdout}{result.stderr}")
        return result.stdout

    # The configuration

    @property
    def configuration(self) -> Path:
        return self.directory / "etc" / "glance-api.conf"

    def data_directory(self, store: str | None = None) -> Path:
        """Where the store keeps its files; without a store, the one of single-store mode."""
        if isinstance(self.stores, Path):
            return self.stores
        return self.stores[store or next(iter(self.stores))]

    def file(self, image_id: str, store: str | None = None) -> Path:
        """Where the store keeps this image's bytes."""
        return self.data_directory(store) / image_id

    def write_scrubber_configuration(self, file: Path, options: Options | None = None) -> Path:
        """Write what glance-scrubber.conf holds: database and stores, as in glance-api.conf.

        Nothing is remembered from run to run unless ``options`` name a state database, and no
        port is taken unless they say which.
        """
        forgetful: Options = {"state": {"connection": ""}, "admin": {"listen": ""}}
        file.write_text(render(merge(self._shared_options(), forgetful, options or {})))
        return file

    def _configure(self, options: Options) -> None:
        etc = self.directory / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        for directory in self._data_directories():
            directory.mkdir(parents=True, exist_ok=True)
        (etc / "paste.ini").write_text(PASTE)
        self.configuration.write_text(
            render(merge(self._shared_options(), self._api_options(), options))
        )

    def _data_directories(self) -> list[Path]:
        stores = [self.stores] if isinstance(self.stores, Path) else self.stores.values()
        return [*stores, self._staging, self._tasks]

    @property
    def _staging(self) -> Path:
        return self.directory / "staging"

    @property
    def _tasks(self) -> Path:
        return self.directory / "tasks"

    def _shared_options(self) -> Options:
        """What the API and a scrubber must agree on."""
        return merge(
            {
                "DEFAULT": {
                    "delayed_delete": self.delayed_delete,
                    **without_none(metadata_encryption_key=self.metadata_encryption_key),
                },
                "database": {"connection": self.database.url},
            },
            store_options(self.stores, self.backends),
            {
                "os_glance_staging_store": {"filesystem_store_datadir": self._staging},
                "os_glance_tasks_store": {"filesystem_store_datadir": self._tasks},
            },
        )

    def _api_options(self) -> Options:
        return {
            "DEFAULT": {
                # The locations of an image, in its JSON and in PATCH.
                "show_multiple_locations": True,
                "show_image_direct_url": True,
                "node_staging_uri": f"file://{self._staging}",
            },
            "paste_deploy": {"config_file": self.directory / "etc" / "paste.ini"},
            "oslo_concurrency": {"lock_path": self.directory / "locks"},
            "oslo_messaging_notifications": {"driver": "noop"},
            "image_import_opts": {"image_import_plugins": "[]"},
        }

    @property
    def _environment(self) -> dict[str, str]:
        return {"OS_GLANCE_CONFIG_DIR": str(self.directory / "etc"), "PYTHONWARNINGS": "ignore"}

    def _run(self, *args: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self._python, *ISOLATED, *args],
            cwd=self.directory,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def glance_python() -> Path:
    """The interpreter of the environment that has Glance; Unavailable if there is none."""
    default = REPOSITORY / ".tox" / "glance" / "bin" / "python"
    python = Path(os.environ.get("SCRUBBER_GLANCE_PYTHON") or default)
    if not python.exists():
        raise Unavailable(f"no Glance: {python} does not exist (tox -e glance makes it)")
    return python


def create_schema(database: Database) -> None:
    """Make Glance's tables in an empty database with ``glance-manage db sync``."""
    with tempfile.TemporaryDirectory() as directory:
        result = Glance(Path(directory), database, Path(directory) / "store").manage("db", "sync")
    if result.returncode != 0:
        raise RuntimeError(f"glance-manage db sync failed:\n{result.stdout}{result.stderr}")


def store_options(
    stores: Mapping[str, Path] | Path, backends: Mapping[str, Backend] | None = None
) -> Options:
    """The options that make a Glance keep its images in these directories and backends."""
    backends = backends or {}
    if isinstance(stores, Path):
        assert not backends, "single-store mode has one store"
        return {
            "glance_store": {
                "stores": "file",
                "default_store": "file",
                "filesystem_store_datadir": stores,
            }
        }
    kinds = {
        **dict.fromkeys(stores, "file"),
        **{store: backend.kind for store, backend in backends.items()},
    }
    return {
        "DEFAULT": {"enabled_backends": ",".join(f"{at}:{kind}" for at, kind in kinds.items())},
        "glance_store": {"default_backend": next(iter(kinds))},
        **{store: {"filesystem_store_datadir": path} for store, path in stores.items()},
        **{store: backend.options for store, backend in backends.items()},
    }


def merge(*several: Options) -> dict[str, dict[str, object]]:
    """Options of all of them; the later ones win."""
    merged: dict[str, dict[str, object]] = {}
    for options in several:
        for section, values in options.items():
            merged.setdefault(section, {}).update(values)
    return merged


def render(options: Options) -> str:
    """An oslo.config file; ``$`` is doubled, since a single one would start a reference."""
    lines: list[str] = []
    for section, values in options.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {str(value).replace('$', '$$')}" for name, value in values.items()]
        lines.append("")
    return "\n".join(lines)


def without_none(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
