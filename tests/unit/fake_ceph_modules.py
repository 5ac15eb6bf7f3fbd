"""Modules rados and rbd that say what a test wants to hear; there is no cluster."""

import json
import sys
import types
from typing import Any

import pytest

FSID = "11111111-2222-3333-4444-555555555555"


class FakeCeph:
    """What the modules know, and what was asked of them.

    :ivar settings: of each connection that was made.
    :ivar fails: errno with which opening an image, ``connect`` or reading a pool fails.
    """

    def __init__(self) -> None:
        self.settings: list[dict[str, Any]] = []
        self.open_connections = 0
        self.pools = {"images": 1}
        self.objects: set[str] = set()
        self.fails: dict[str, int] = {}

    def check(self, what: str, error: type[Exception]) -> None:
        if number := self.fails.get(what):
            raise error(f"{what} of secret-name", number)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rados", _rados(self))
        monkeypatch.setitem(sys.modules, "rbd", _rbd(self))


def _errors(module: types.ModuleType, *names: str) -> Any:
    class Error(Exception):
        def __init__(self, message: str, errno: int | None = None) -> None:
            super().__init__(message)
            self.errno = errno

    module.Error = Error  # type: ignore[attr-defined]
    for name in ("OSError", *names):
        setattr(module, name, type(name, (Error,), {}))
    return module


def _rados(ceph: FakeCeph) -> Any:
    module = _errors(types.ModuleType("rados"), "ObjectNotFound")

    class Pool:
        def set_osdmap_full_try(self) -> None: ...

        def get_omap_keys(self, operation: object, after: str, count: int) -> Any:
            return iter(["id_1"]), 0

        def operate_read_op(self, operation: object, name: str) -> None:
            ceph.check("read", module.OSError)

        def stat(self, name: str) -> None:
            if name not in ceph.objects:
                raise module.ObjectNotFound("stat of secret-name", 2)

        def close(self) -> None: ...

    class Rados:
        def __init__(self, conffile: str, rados_id: str | None, conf: dict[str, str]) -> None:
            ceph.check("configure", module.Error)
            ceph.settings.append({"conffile": conffile, "rados_id": rados_id, **conf})

        def connect(self) -> None:
            ceph.check("connect", module.OSError)
            ceph.open_connections += 1

        def get_fsid(self) -> str:
            return FSID

        def get_instance_id(self) -> int:
            return 1

        def mon_command(self, command: str, data: bytes) -> Any:
            pools = [{"poolname": name, "poolnum": at} for name, at in ceph.pools.items()]
            return -ceph.fails.get("monitor", 0), json.dumps(pools).encode(), ""

        def open_ioctx2(self, number: int) -> Pool:
            return Pool()

        def shutdown(self) -> None:
            ceph.open_connections -= 1

    class ReadOpCtx:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    module.Rados, module.ReadOpCtx = Rados, ReadOpCtx
    return module


def _rbd(ceph: FakeCeph) -> Any:
    module = _errors(
        types.ModuleType("rbd"), "ImageNotFound", "ImageHasSnapshots", "InvalidArgument"
    )

    class Image:
        def __init__(self, pool: object, name: str, read_only: bool = False) -> None:
            ceph.check("open", module.OSError)
            raise module.ImageNotFound("secret-name", 2)

    class RBD:
        def remove(self, pool: object, name: str) -> None:
            raise module.ImageNotFound("secret-name", 2)

        def trash_list(self, pool: object) -> list[Any]:
            return []

    module.Image, module.RBD = Image, RBD
    return module
