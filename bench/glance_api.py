"""``python -m bench.glance_api``: scrubber through Glance's API, beside what operators do by hand.

Every contender deletes marked images of the same real Glance (MariaDB, file store, eight threads),
through the same proxy, which makes it an administrator.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa
from glanceclient.v2.client import Client
from keystoneauth1 import noauth
from keystoneauth1 import session as sessions

from functional.rows import Tables
from functional.staging import Staging
from lab.databases import MariaDB
from lab.glance import Glance, create_schema, render
from lab.glance_proxy import GlanceProxy
from lab.scratch import ScratchDirectory

STORE = "fast"
TAG = "pending_delete"

#: One process for each image takes its time.
MOST_BY_COMMAND = 20


@dataclass(frozen=True)
class Measured:
    """One contender: whole processes, start-up included, save where it is a loop in this one."""

    contender: str
    images: int
    seconds: float
    requests: int

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


@dataclass(frozen=True)
class Place:
    """Where images are deleted."""

    glance: Glance
    proxy: GlanceProxy
    directory: Path


Contender = Callable[[Place, Sequence[str]], None]


def by_command(place: Place, images: Sequence[str]) -> None:
    """``glance image-delete``, one after the other."""
    command = [str(Path(sys.executable).with_name("glance"))]
    command += ["--os-auth-token", "none", "--os-image-url", place.proxy.url, "image-delete"]
    for image in images:
        subprocess.run(
            [*command, image], check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
        )


def by_client(place: Place, images: Sequence[str]) -> None:
    """python-glanceclient in a loop."""
    session = sessions.Session(auth=noauth.NoAuth(endpoint=place.proxy.url))
    client = Client("2", session=session, endpoint_override=place.proxy.url)
    for image in images:
        client.images.delete(image)


def by_scrubber(place: Place, _images: Sequence[str]) -> None:
    """scrubber, which looks at each image once more before it deletes it."""
    file = place.directory / "scrubber.conf"
    file.write_text(
        render(
            {
                "DEFAULT": {"delayed_delete": False},
                "scrubber": {"source": "glance_api"},
                "glance": {"endpoint_override": place.proxy.url},
                "state": {"connection": ""},
            }
        )
    )
    program = Path(sys.executable).with_name("scrubber")
    subprocess.run([program, "--config-file", file], check=True)


CONTENDERS: dict[str, Contender] = {
    "glance image-delete, one by one": by_command,
    "python-glanceclient, a plain loop": by_client,
    "scrubber, source = glance_api": by_scrubber,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.glance_api", description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--visibility", default="private", help="shared costs one request more")
    parser.add_argument("--round-trip", type=float, default=0, help="ms that each request takes")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    server = MariaDB(create_schema)
    with ExitStack() as stack:
        directory = stack.enter_context(ScratchDirectory("bench-"))
        stack.callback(server.stop)
        server.start()
        database = server.create_database("bench")
        stores = {STORE: directory / STORE}
        glance = Glance(directory, database, stores, delayed_delete=False)
        with glance, GlanceProxy(glance.url) as proxy:
            proxy.round_trip = options.round_trip / 1000
            place = Place(glance, proxy, directory)
            measured = [
                measure(place, name, contender, options.images, options.visibility)
                for name, contender in CONTENDERS.items()
            ]
    if options.json:
        document = {
            "visibility": options.visibility,
            "round_trip_ms": options.round_trip,
            "measured": [asdict(at) for at in measured],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


def measure(place: Place, name: str, contender: Contender, count: int, visibility: str) -> Measured:
    images = marked_images(
        place.glance, min(count, MOST_BY_COMMAND) if contender is by_command else count, visibility
    )
    place.proxy.requests.clear()
    started = time.perf_counter()
    contender(place, images)
    seconds = time.perf_counter() - started
    left = [path for path in place.glance.data_directory(STORE).iterdir() if path.is_file()]
    assert not left, f"{name} left {len(left)} images"
    done = Measured(name, len(images), seconds, len(place.proxy.requests))
    print(
        f"{name:36}{done.images_per_second:8.1f} images/s{done.requests / done.images:8.2f} "
        f"requests/image ({done.images} images)",
        flush=True,
    )
    return done


def marked_images(glance: Glance, count: int, visibility: str) -> list[str]:
    """Active images with the tag, by Glance's own code and some rows."""
    staging, tables = Staging(glance), Tables(glance.database)
    try:
        images: list[str] = staging.create(
            count=count,
            directory=str(glance.data_directory(STORE)),
            store=STORE,
            owner="project",
            size=1000,
            delete=False,
        )
        tags, rows = tables.table("image_tags"), tables.table("images")
        now = {"created_at": sa.func.now(), "updated_at": sa.func.now(), "deleted": False}
        tables.execute(
            *(sa.insert(tags).values(image_id=at, value=TAG, **now) for at in images),
            sa.update(rows).where(rows.c.id.in_(images)).values(visibility=visibility),
        )
        return images
    finally:
        staging.close()
        tables.close()


if __name__ == "__main__":
    main()
