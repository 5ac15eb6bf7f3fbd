"""Runs in Swift's environment: ``serve.py SETTINGS``, a JSON file that ``lab.swift`` writes.

The four real servers of a Swift with one disk, in one process: proxy, account, container
and object.  What else a Swift needs, memcached and Keystone, is in ``filters``.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import eventlet
import eventlet.wsgi

eventlet.monkey_patch()

# Swift reads its directory when it is imported, so this comes first.
from swift.common import constraints, utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.storage_policy import reload_storage_policies  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

LOCALHOST = "127.0.0.1"
STORAGE = ("object", "container", "account")

STORAGE_SERVER = """\
[DEFAULT]
swift_dir = {etc}
devices = {disks}
mount_check = false
log_level = CRITICAL
disable_fallocate = true
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {cache}
"""

PROXY_SERVER = """\
[DEFAULT]
swift_dir = {etc}
log_level = CRITICAL
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
# The number of objects in a container, which the rate limit depends on, is kept as long.
recheck_container_existence = 1
[filter:outer]
paste.filter_factory = filters:faults
place = outer
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
paste.filter_factory = filters:cache
[filter:bulk]
use = egg:swift#bulk
delete_concurrency = {bulk_concurrency}
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:keystone]
paste.filter_factory = filters:keystone
url = http://{localhost}:{port}
[filter:tempauth]
use = egg:swift#tempauth
{users}
[filter:ratelimit]
use = egg:swift#ratelimit
account_ratelimit = 0
container_ratelimit_1 = {ratelimit}
max_sleep_time_seconds = 0.1
rate_buffer_seconds = 1
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
allow_async_delete = false
[filter:dlo]
use = egg:swift#dlo
[filter:inner]
paste.filter_factory = filters:faults
place = inner
"""


def listen(port: int = 0) -> Any:
    return eventlet.listen((LOCALHOST, port), reuse_port=False)


def write_rings(etc: Path, sockets: dict[str, Any]) -> None:
    for kind in STORAGE:
        port = sockets[kind].getsockname()[1]
        ring = RingBuilder(3, 1, 0)
        ring.add_dev(
            {
                "id": 0,
                "region": 1,
                "zone": 1,
                "ip": LOCALHOST,
                "port": port,
                "device": "disk",
                "weight": 1.0,
                "replication_ip": LOCALHOST,
                "replication_port": port,
                "meta": "",
            }
        )
        ring.rebalance(seed=1)
        ring.get_ring().save(str(etc / f"{kind}.ring.gz"))


def write_configuration(root: Path, etc: Path, settings: dict[str, Any]) -> None:
    values = {
        **settings,
        "etc": etc,
        "disks": root / "disks",
        "cache": root / "cache",
        "localhost": LOCALHOST,
        "pipeline": " ".join(settings["pipeline"]),
        "users": "\n".join(settings["users"]),
    }
    constraints = "\n".join(f"{name} = {value}" for name, value in settings["limits"].items())
    (etc / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = lab\nswift_hash_path_suffix = lab\n"
        "[storage-policy:0]\nname = default\ndefault = yes\n"
        f"[swift-constraints]\n{constraints}\n"
    )
    for kind in STORAGE:
        (etc / f"{kind}-server.conf").write_text(STORAGE_SERVER.format(kind=kind, **values))
    (etc / "proxy-server.conf").write_text(PROXY_SERVER.format(**values))


def main() -> None:
    root = Path(sys.argv[1]).parent
    settings = json.loads(Path(sys.argv[1]).read_text())
    etc = root / "etc"
    for directory in (etc, root / "disks" / "disk", root / "cache"):
        directory.mkdir(parents=True, exist_ok=True)
    sockets = {kind: listen() for kind in STORAGE}
    write_rings(etc, sockets)
    write_configuration(root, etc, settings)
    utils.set_swift_dir(str(etc))
    reload_storage_policies()
    constraints.reload_constraints()  # else only those of /etc/swift are read
    quiet = logging.Logger("quiet")
    quiet.addHandler(logging.NullHandler())
    servers = []
    for kind in (*STORAGE, "proxy"):
        app = loadapp(str(etc / f"{kind}-server.conf"))
        # The proxy listens last: who can connect to it has a whole Swift.
        socket = sockets.get(kind) or listen(settings["port"])
        servers.append(
            eventlet.spawn(
                eventlet.wsgi.server,
                socket,
                app,
                quiet,
                custom_pool=eventlet.GreenPool(1000),
                protocol=SwiftHttpProtocol,
                log_output=False,
            )
        )
    for server in servers:
        server.wait()


if __name__ == "__main__":
    main()
