"""A real Ceph: one monitor and one OSD that keeps everything in memory.

No manager and no kernel module: enough for RBD images, pools, clones, trash and users.
"""

import base64
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import Unavailable
from lab.databases import PROGRAM_DIRECTORIES, find_program
from lab.processes import (
    LOCALHOST,
    Child,
    Service,
    accepts_connections,
    free_port,
    is_stopped,
    wait_until,
)
from lab.scratch import ScratchDirectory

# Distributions build Ceph's Python modules for their own interpreter only, and they are not on
# the package index.
MODULE_DIRECTORIES = ("/usr/lib/python3/dist-packages", "/usr/lib64/python3/site-packages")
MODULES = ("rados", "rbd")

CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = {monitor}
mon_initial_members = a
public_addr = {host}
cluster_addr = {host}
ms_bind_ipv6 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {directory}/keyring
osd_objectstore = memstore
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_class_update_on_start = false
osd_heartbeat_interval = 1
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_data_avail_warn = 1
mon_data_avail_crit = 1
paxos_propose_interval = 0.02
run_dir = {directory}
admin_socket = {directory}/$name.asok
pid_file = {directory}/$name.pid
log_file = {directory}/$name.log
mon_cluster_log_file = {directory}/cluster.log
crash_dir = {directory}
mon_data = {directory}/mon
osd_data = {directory}/osd
osd_journal = {directory}/osd/journal
"""


class Ceph(Service):
    """A cluster with these pools, while it is started.

    :param pools: names of the pools for RBD images that it has at once.
    """

    def __init__(self, *pools: str) -> None:
        self.fsid = str(uuid.uuid4())
        self._pools = pools
        self._scratch: ScratchDirectory | None = None
        self._children: dict[str, Child] = {}
        self._rados: Any = None

    # The processes

    def start(self) -> None:
        """Start it and wait until its pools can be used; Unavailable if it is not installed."""
        monitor, osd = _program("ceph-mon"), _program("ceph-osd")
        self._scratch = ScratchDirectory("ceph-")
        link_modules(self.modules)
        try:
            self._start_monitor(monitor)
            self._connect()
            self._start_osd(osd)
            for pool in self._pools:
                self.create_pool(pool)
        except BaseException:
            self.stop()
            raise

    def _start_monitor(self, program: str) -> None:
        second = free_port()
        first = next(port for port in iter(free_port, None) if port != second)
        address = f"[v2:{LOCALHOST}:{first},v1:{LOCALHOST}:{second}]"
        self.configuration.write_text(
            CONFIGURATION.format(
                fsid=self.fsid, monitor=address, host=LOCALHOST, directory=self.directory
            )
        )
        for entity in ("mon.", "osd.0", "client.admin"):
            self._add_to_keyring(entity)
        members = self.directory / "members"
        self._run(
            _program("monmaptool"), "--create", "--fsid", self.fsid, "--addv", "a", address, members
        )
        self._run(
            program,
            *(*self._arguments, "--mkfs", "-i", "a"),
            *("--monmap", members, "--keyring", self.keyring),
        )
        self._child("mon", program, "-f", "-i", "a").wait_ready(lambda: accepts_connections(first))

    def _start_osd(self, program: str) -> None:
        identity = str(uuid.uuid4())
        self.command("osd new", uuid=identity)
        (self.directory / "osd").mkdir()
        self._run(program, *self._arguments, "-i", "0", "--mkfs", "--osd-uuid", identity)
        child = self._child("osd", program, "-f", "-i", "0")
        child.wait_ready(lambda: bool(self.command("osd stat")["num_up_osds"]))

    def _add_to_keyring(self, entity: str) -> None:
        """Somebody who may do everything."""
        with self.keyring.open("a") as keyring:
            keyring.write(f'[{entity}]\nkey = {_new_key()}\ncaps mon = "allow *"\n')
            keyring.write('caps osd = "allow *"\n')

    def _child(self, name: str, program: str, *arguments: str) -> Child:
        log = self.directory / f"{name}.out"
        child = Child([program, *self._arguments, *arguments], log=log, directory=self.directory)
        self._children[name] = child
        return child

    def stop(self) -> None:
        if self._rados is not None:
            self._rados.shutdown()
            self._rados = None
        while self._children:
            # There is nothing to save: all of it is in memory.
            self._children.popitem()[1].stop(signal.SIGKILL)
        if self._scratch is not None:
            self._scratch.close()

    @contextmanager
    def frozen(self, *daemons: str) -> Iterator[None]:
        """Some of ``mon`` and ``osd`` say nothing any more, though they accept connections."""
        children = [self._children[name] for name in daemons]
        try:
            for child in children:
                child.send(signal.SIGSTOP)
            # Threads stop one by one, and librbd waits for the end of what one of them took up.
            wait_until(lambda: all(is_stopped(child.pid) for child in children), what="silence")
            yield
        finally:
            for child in children:
                child.send(signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """So full that nobody may write; what it holds need be no more than some megabytes."""
        self._set_ratios(0.001)
        try:
            wait_until(lambda: self._is_full, what="a full cluster")
            yield
        finally:
            self._set_ratios(0.95)
            wait_until(lambda: not self._is_full, what="a cluster with room")

    def _set_ratios(self, full: float) -> None:
        for name in ("nearfull", "backfillfull", "full"):
            self.command(f"osd set-{name}-ratio", ratio=full)

    @property
    def _is_full(self) -> bool:
        [osd] = self.command("osd dump")["osds"]
        return "full" in osd["state"]

    # Where it is

    @property
    def directory(self) -> Path:
        assert self._scratch is not None, "not started"
        return self._scratch.path

    @property
    def configuration(self) -> Path:
        """Its ceph.conf."""
        return self.directory / "ceph.conf"

    @property
    def modules(self) -> Path:
        """A directory for ``sys.path`` that has the modules rados and rbd, and nothing else."""
        return self.directory / "python"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a child process needs to import rados and rbd."""
        return {"PYTHONPATH": str(self.modules)}

    @property
    def keyring(self) -> Path:
        """Keys of the daemons and of the administrator."""
        return self.directory / "keyring"

    # What an administrator does

    def command(self, prefix: str, **arguments: object) -> Any:
        """A command of ``ceph``, by the monitor: ``command("osd pool ls")``."""
        request = json.dumps({"prefix": prefix, "format": "json", **arguments})
        code, output, message = self._rados.mon_command(request, b"", timeout=20)
        if code:
            raise RuntimeError(f"ceph {prefix}: {message} ({code})")
        return json.loads(output) if output.strip() else None

    def create_pool(self, name: str) -> None:
        """A pool for RBD images."""
        self.command("osd pool create", pool=name, pg_num=4)
        self.command("osd pool application enable", pool=name, app="rbd", force=True)
        wait_until(lambda: self._is_active(name), what=f"pool {name}")

    def create_user(self, name: str, **capabilities: str) -> Path:
        """A user ``client.NAME``; returns a ceph.conf that knows its key.

        :param capabilities: as in ``mon="profile rbd", osd="profile rbd pool=images"``.
        """
        caps = [word for pair in capabilities.items() for word in pair]
        [user] = self.command("auth get-or-create", entity=f"client.{name}", caps=caps)
        keyring = self.directory / f"{name}.keyring"
        keyring.write_text(f"[client.{name}]\nkey = {user['key']}\n")
        configuration = self.directory / f"{name}.conf"
        own = f"[client.{name}]\nkeyring = {keyring}\n"
        configuration.write_text(self.configuration.read_text() + own)
        return configuration

    def delete_pool(self, name: str) -> None:
        """Remove it with all that it holds."""
        self.command("osd pool delete", pool=name, pool2=name, yes_i_really_really_mean_it=True)
        self._rados.wait_for_latest_osdmap()

    def _is_active(self, pool: str) -> bool:
        self._rados.wait_for_latest_osdmap()
        with self._rados.open_ioctx(pool) as pool_io:
            pool_io.write_full("ready", b"")
            pool_io.remove_object("ready")
        return True

    @contextmanager
    def pool(self, name: str) -> Iterator[Any]:
        """An I/O context of the pool, of the lab's own connection."""
        self._rados.wait_for_latest_osdmap()
        with self._rados.open_ioctx(name) as opened:
            yield opened

    def connect(self, **options: str) -> Any:
        """Another connection to it, to be shut down by the caller."""
        rados = _imported("rados", self.modules)
        connection = rados.Rados(conffile=str(self.configuration), conf=options)
        connection.connect()
        return connection

    def _connect(self) -> None:
        self._rados = self.connect(client_mount_timeout="20", rados_osd_op_timeout="20")

    def _run(self, *argv: str | Path) -> None:
        result = subprocess.run(
            argv, cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"{argv[0]} failed: {result.stderr.decode(errors='replace')}")

    @property
    def _arguments(self) -> tuple[str, str]:
        return "-c", str(self.configuration)


def _new_key() -> str:
    """A secret as ``ceph-authtool --gen-key`` makes one: type, time, length, AES key."""
    header = struct.pack("<HIIH", 1, int(time.time()), 0, 16)
    return base64.b64encode(header + os.urandom(16)).decode()


def link_modules(directory: Path) -> None:
    """Links to Ceph's Python modules alone, in a directory for ``sys.path``.

    The distribution's own directory would bring all its other packages along.

    :raises Unavailable: there are none that this interpreter can load.
    """
    directory.mkdir()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for module in MODULES:
        found = [Path(at, module + suffix) for at in MODULE_DIRECTORIES]
        existing = next((file for file in found if file.exists()), None)
        if existing is None:
            version = ".".join(map(str, sys.version_info[:2]))
            raise Unavailable(f"no module {module} of Ceph is installed for Python {version}")
        (directory / existing.name).symlink_to(existing)


def _imported(module: str, directory: Path) -> Any:
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
    importlib.invalidate_caches()
    return importlib.import_module(module)


def _program(name: str) -> str:
    return find_program(name, PROGRAM_DIRECTORIES)
