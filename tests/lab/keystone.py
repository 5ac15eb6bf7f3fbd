"""A real Keystone on SQLite: users, tokens and a catalogue."""

import os
import subprocess
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from keystoneauth1 import session as sessions
from keystoneauth1.identity import v3

from lab import Unavailable
from lab.glance import render
from lab.processes import LOCALHOST, Child, Service, accepts_connections, free_port

REPOSITORY = Path(__file__).resolve().parents[2]

REGION = "RegionOne"
PASSWORD = "s3cret-of-admin"

# No modules from the current directory.
_ISOLATED = ("-P",)

# Keystone takes the command line for its own.
_SERVE = f"""\
import sys, waitress
port = sys.argv.pop()
from keystone.wsgi.api import application
waitress.serve(application, listen="{LOCALHOST}:" + port, threads=4)
"""


class Keystone(Service):
    """``with Keystone(directory) as keystone``; ``admin`` may do everything."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._python = keystone_python()
        self._port = free_port()
        self._child: Child | None = None
        self._configure()

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self._port}/v3"

    def start(self) -> None:
        """Make the database, the administrator and the catalogue's own entry; then serve."""
        self._manage("db_sync")
        self._manage(
            "bootstrap",
            *("--bootstrap-password", PASSWORD),
            *("--bootstrap-public-url", self.url),
            *("--bootstrap-region-id", REGION),
        )
        self._child = Child(
            [
                self._python,
                *_ISOLATED,
                "-c",
                _SERVE,
                str(self._port),
            ],
            log=self.directory / "keystone.log",
            environment=self._environment,
            directory=self.directory,
        )
        self._child.wait_ready(lambda: accepts_connections(self._port))

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(seconds=3)

    # What is in it

    def session(self) -> sessions.Session:
        """The administrator's."""
        auth = v3.Password(
            self.url,
            username="admin",
            password=PASSWORD,
            project_name="admin",
            user_domain_id="default",
            project_domain_id="default",
        )
        return sessions.Session(auth=auth, timeout=60)

    def add_service(self, kind: str, url: str) -> None:
        """A service in the catalogue."""
        service = self._post("services", service={"type": kind, "name": kind})
        self._post(
            "endpoints",
            endpoint={
                "interface": "public",
                "region_id": REGION,
                "url": url,
                "service_id": service["id"],
            },
        )

    def add_user(self, name: str, password: str, role: str) -> None:
        """A user with a project of the same name, and that role in it."""
        project = self._post("projects", project={"name": name, "domain_id": "default"})
        user = self._post(
            "users", user={"name": name, "password": password, "domain_id": "default"}
        )
        session = self.session()
        roles = session.get(f"{self.url}/roles", params={"name": role}).json()["roles"]
        session.put(
            f"{self.url}/projects/{project['id']}/users/{user['id']}/roles/{roles[0]['id']}"
        )

    def revoke(self, token: str) -> None:
        """From now on it is worth nothing, as after its expiry."""
        self.session().delete(f"{self.url}/auth/tokens", headers={"X-Subject-Token": token})

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.session().post(f"{self.url}/{path}", json=body).json()
        [made] = answer.values()
        return dict(made)

    # The configuration

    def _configure(self) -> None:
        etc = self.directory / "etc"
        etc.mkdir(parents=True)
        keys = {name: etc / name for name in ("fernet", "receipts", "credential")}
        for directory in keys.values():
            directory.mkdir(mode=0o700)
            for number in ("0", "1"):
                (directory / number).write_bytes(Fernet.generate_key())
        (etc / "keystone.conf").write_text(
            render(
                {
                    "database": {
                        "connection": f"sqlite:///{self.directory}/keystone.sqlite",
                        "sqlite_synchronous": False,
                    },
                    "token": {"provider": "fernet"},
                    "fernet_tokens": {"key_repository": keys["fernet"]},
                    "fernet_receipts": {"key_repository": keys["receipts"]},
                    "credential": {"key_repository": keys["credential"]},
                }
            )
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {"OS_KEYSTONE_CONFIG_DIR": str(self.directory / "etc"), "PYTHONWARNINGS": "ignore"}

    def _manage(self, *args: str) -> None:
        done = subprocess.run(
            [
                self._python.with_name("keystone-manage"),
                *("--config-file", self.directory / "etc" / "keystone.conf"),
                *args,
            ],
            cwd=self.directory,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"keystone-manage {args[0]} failed:\n{done.stdout}{done.stderr}")


def keystone_python() -> Path:
    """The interpreter of the environment that has Keystone; Unavailable if there is none."""
    default = REPOSITORY / ".tox" / "keystone" / "bin" / "python"
    python = Path(os.environ.get("SCRUBBER_KEYSTONE_PYTHON") or default)
    if not python.exists():
        raise Unavailable(f"no Keystone: {python} does not exist (tox -e keystone makes it)")
    return python
