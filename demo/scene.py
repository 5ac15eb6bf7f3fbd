"""Scrubber at work beside a real Glance: what is deleted, what is not, and what comes back.

Every claim that this prints has been checked; a wrong one ends the scene with exit code 1.
``make demo`` plays it.
"""

import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from lab import Unavailable
from lab.databases import Database, Sqlite
from lab.glance import ADMIN_ROLES, Glance, create_schema
from lab.glance_proxy import GlanceProxy
from lab.processes import Child, wait_until
from lab.scratch import ScratchDirectory

SCRUBBER = Path(sys.executable).with_name("scrubber")
STORES = ("fast", "slow")
KILOBYTE = 1024

console = Console(width=100, highlight=False, soft_wrap=True)


class ClaimFailed(Exception):
    """Something is not as the scene says."""


@dataclass(frozen=True)
class Image:
    """An image as it is uploaded."""

    name: str
    project: str
    visibility: str
    kilobytes: int
    stores: tuple[str, ...] = ("fast",)

    @property
    def data(self) -> bytes:
        """Bytes that no other image has."""
        line = f"{self.name} of {self.project}\n".encode()
        size = self.kilobytes * KILOBYTE
        return (line * (size // len(line) + 1))[:size]


@dataclass(frozen=True)
class Uploaded:
    """An image that Glance knows."""

    image: Image
    id: str


BASE = Image("debian-12", "platform", "public", 64, STORES)
PAYROLL = Image("payroll-2024", "accounting", "private", 48, STORES)
DELETED_FIRST = (
    Image("debian-10", "platform", "public", 64, STORES),
    Image("debian-11", "platform", "public", 64),
    Image("web-1", "shop", "private", 16),
    Image("web-2", "shop", "private", 16, ("slow",)),
    Image("cuda-11", "research", "community", 128, STORES),
    Image("notebook", "research", "shared", 32),
)
DELETED_LATER = (
    Image("web-3", "shop", "private", 16),
    Image("cuda-12", "research", "community", 128, STORES),
    Image("backup-monday", "accounting", "private", 24, ("slow",)),
    Image("backup-tuesday", "accounting", "shared", 24, ("slow",)),
)
TAGGED = (
    Image("nightly-1", "builds", "private", 32, STORES),
    Image("nightly-2", "builds", "community", 32, ("slow",)),
)
TAG = "pending_delete"


def main() -> int:
    try:
        with stage() as glance:
            play(glance)
        expect(not glance.directory.exists(), "the directory of the scene is removed")
    except Unavailable as missing:
        console.print(f"\nCannot play: {missing}")
        return 1
    except ClaimFailed as failure:
        console.print(f"\n[red]✘ {failure}[/]")
        return 1
    console.print("\nThe scene is over; nothing is left running and nothing is left on disk.")
    return 0


@contextmanager
def stage() -> Iterator[Glance]:
    """A Glance with delayed_delete and two file stores, its database on SQLite."""
    with ScratchDirectory("demo-") as directory:
        sqlite = Sqlite(create_schema)
        sqlite.start()
        try:
            stores = {store: directory / "stores" / store for store in STORES}
            with Glance(directory, sqlite.create_database("glance"), stores) as glance:
                yield glance
        finally:
            sqlite.stop()


def play(glance: Glance) -> None:
    title("A Glance with delayed_delete and two file stores, fast and slow")
    base = upload(glance, BASE)
    payroll = upload(glance, PAYROLL)
    glance.admin.image_tags.update(payroll.id, "audited")
    glance.admin.images.update(payroll.id, os_distro="debian")
    deleted_first = [upload(glance, image) for image in DELETED_FIRST]
    deleted_later = [upload(glance, image) for image in DELETED_LATER]
    console.print(f"{2 + len(deleted_first) + len(deleted_later)} images uploaded.")

    title("Users delete images, an operator removes one copy of a live image")
    for uploaded in (payroll, *deleted_first):
        delete(glance, uploaded)
    glance.remove_location(base.id, "slow")
    say(f"{base.image.name}: copy in slow removed, the image stays")
    show("BEFORE", glance)
    check_deleted_images_keep_their_bytes(glance, [payroll, *deleted_first])

    configuration = write_configuration(glance)
    title("What would a run do?")
    check_dry_run_changes_nothing(glance, configuration)

    title(f"{payroll.image.name} was deleted by mistake: give it back")
    scrubber("--restore", payroll.id, "--config-file", configuration)
    check_downloads(glance, payroll)
    restored = glance.admin.images.get(payroll.id)
    claim(restored.tags == ["audited"], "its tag is back")
    claim(restored.get("os_distro") == "debian", "its property is back")

    title("One run")
    scrubber("--config-file", configuration)
    show("AFTER ONE RUN", glance)
    check_scrubbed(glance, deleted_first)
    claim(not glance.file(base.id, "slow").exists(), f"{base.image.name}: removed copy is gone")
    check_downloads(glance, base)
    check_downloads(glance, payroll)

    title("A daemon that wakes up every second")
    check_daemon_scrubs(glance, configuration, deleted_later)

    title("Without access to the database: what carries a tag goes through Glance's own API")
    tagged = [upload(glance, image) for image in TAGGED]
    for uploaded in tagged:
        glance.admin.image_tags.update(uploaded.id, TAG)
        say(f"{uploaded.image.name}: tagged {TAG} by an administrator")
    with GlanceProxy(glance.url) as in_place_of_keystone:
        scrubber("--config-file", write_api_configuration(glance, in_place_of_keystone.url))
    claim(not listed(glance, tagged), "Glance knows none of them any more")
    say("This Glance has delayed_delete: who has its database frees the bytes.")
    scrubber("--config-file", configuration)
    check_scrubbed(glance, tagged)

    show("AFTER", glance)
    check_only_live_images_have_bytes(glance, {"fast": [base, payroll], "slow": [payroll]})
    check_downloads(glance, base)
    check_downloads(glance, payroll)


# What is done


def upload(glance: Glance, image: Image) -> Uploaded:
    roles = ADMIN_ROLES if image.visibility == "public" else ("member", "reader")
    first, *others = image.stores
    image_id = glance.upload(
        glance.client(project=image.project, user=f"{image.project}-user", roles=roles),
        image.data,
        name=image.name,
        visibility=image.visibility,
        store=first,
    )
    for store in others:
        glance.copy_to(image_id, store)
    stores = " and ".join(image.stores)
    say(
        f"{image.name:15} {image.visibility:10} {image.project:11} {image.kilobytes:4} KiB"
        f"  in {stores}"
    )
    return Uploaded(image, image_id)


def delete(glance: Glance, uploaded: Uploaded) -> None:
    owner = glance.client(project=uploaded.image.project, user=f"{uploaded.image.project}-user")
    glance.delete(uploaded.id, owner)
    say(f"{uploaded.image.name}: deleted by {uploaded.image.project}")


def write_configuration(glance: Glance) -> Path:
    """The database and stores of glance-api.conf, and no waiting times."""
    return glance.write_scrubber_configuration(
        glance.directory / "etc" / "scrubber.conf",
        {
            "DEFAULT": {"scrub_time": 0, "wakeup_time": 1},
            "scrubber": {"removed_location_age": 0},
        },
    )


def write_api_configuration(glance: Glance, url: str) -> Path:
    """Nothing but the address of an API that takes every caller for its administrator."""
    file = glance.directory / "etc" / "glance-api-only.conf"
    file.write_text(
        # Glance on SQLite fails where two delete at once.
        "[DEFAULT]\nscrub_pool_size = 1\n"
        "[scrubber]\nsource = glance_api\n"
        f"[glance]\nendpoint_override = {url}\nretire_tag = {TAG}\n"
        "[state]\nconnection =\n"
    )
    return file


def scrubber(*args: str | Path) -> None:
    command = show_command(args)
    result = subprocess.run(
        command,
        cwd=args[-1].parent if isinstance(args[-1], Path) else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    quote(result.stdout)
    claim(result.returncode == 0, f"exit code {result.returncode}")


def show_command(args: Sequence[str | Path]) -> list[str]:
    """Print a command line of scrubber without directories, and return it as it is run."""
    shown = " ".join(arg.name if isinstance(arg, Path) else arg for arg in args)
    console.print(f"[bold]$ scrubber {shown}[/]")
    return [str(SCRUBBER), *(str(arg) for arg in args)]


# What is checked


def check_deleted_images_keep_their_bytes(glance: Glance, images: Sequence[Uploaded]) -> None:
    statuses = image_statuses(glance.database)
    for uploaded in images:
        expect(statuses[uploaded.id] == "pending_delete", f"{uploaded.image.name} is pending")
        for file in files(glance, uploaded):
            expect(file.read_bytes() == uploaded.image.data, f"{file} holds its image")
        expect(glance.download(uploaded.id) is None, f"{uploaded.image.name} cannot be downloaded")
    claim(True, "deleted images cannot be downloaded, and still take all their space")


def check_dry_run_changes_nothing(glance: Glance, configuration: Path) -> None:
    before = snapshot(glance)
    scrubber("--config-file", configuration, "--dry-run")
    claim(snapshot(glance) == before, "not one row and not one file has changed")


def check_downloads(glance: Glance, uploaded: Uploaded) -> None:
    claim(
        glance.download(uploaded.id) == uploaded.image.data,
        f"{uploaded.image.name} is downloaded from Glance, byte for byte",
    )


def listed(glance: Glance, images: Sequence[Uploaded]) -> set[str]:
    """Those of the images that Glance's API shows to its administrator."""
    return {at.id for at in glance.admin.images.list()} & {at.id for at in images}


def check_scrubbed(glance: Glance, images: Sequence[Uploaded]) -> None:
    statuses = image_statuses(glance.database)
    locations = location_statuses(glance.database)
    for uploaded in images:
        expect(statuses[uploaded.id] == "deleted", f"{uploaded.image.name} is deleted")
        expect(set(locations[uploaded.id]) == {"deleted"}, f"{uploaded.image.name}: its locations")
        expect(not any(map(Path.exists, files(glance, uploaded))), f"{uploaded.image.name} is gone")
    claim(True, f"{len(images)} images: all copies deleted, rows say so")


def check_daemon_scrubs(glance: Glance, configuration: Path, images: Sequence[Uploaded]) -> None:
    command = show_command(("--daemon", "--config-file", configuration))
    log = glance.directory / "daemon.log"
    with Child(command, log=log) as daemon:
        for uploaded in images:
            delete(glance, uploaded)
            vanish(glance, daemon, uploaded)
        console.print("[bold]$ kill -TERM the daemon[/]")
        code = daemon.stop(seconds=30)
    quote(log.read_text())
    claim(code == 0, f"the daemon has ended with exit code {code}")
    check_scrubbed(glance, images)


def vanish(glance: Glance, daemon: Child, uploaded: Uploaded) -> None:
    def scrubbed() -> bool:
        expect(daemon.running, f"the daemon runs:\n{daemon.log_tail()}")
        return image_statuses(glance.database)[uploaded.id] == "deleted"

    wait_until(scrubbed, what=f"scrubbing of {uploaded.image.name}", seconds=30, every=0.1)
    claim(not any(map(Path.exists, files(glance, uploaded))), f"{uploaded.image.name} has vanished")


def check_only_live_images_have_bytes(glance: Glance, live: dict[str, list[Uploaded]]) -> None:
    for store, images in live.items():
        names = {file.name for file in glance.data_directory(store).iterdir()}
        expect(names == {uploaded.id for uploaded in images}, f"files in {store}")
    pending = [
        status
        for statuses in location_statuses(glance.database).values()
        for status in statuses
        if status == "pending_delete"
    ]
    claim(not pending, "nothing is pending, and the stores hold the live images' bytes only")


def claim(holds: bool, text: str) -> None:
    expect(holds, text)
    console.print(f"[green]✔ {text}[/]")


def expect(holds: bool, text: str) -> None:
    if not holds:
        raise ClaimFailed(f"not as claimed: {text}")


# What is seen


def files(glance: Glance, uploaded: Uploaded) -> list[Path]:
    return [glance.file(uploaded.id, store) for store in uploaded.image.stores]


def image_statuses(database: Database) -> dict[str, str]:
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT id, status FROM images"))
        return {row.id: row.status for row in rows}


def location_statuses(database: Database) -> dict[str, list[str]]:
    """Statuses of its locations by image."""
    statuses: dict[str, list[str]] = {}
    with database.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT image_id, status FROM image_locations"))
        for image_id, status in rows:
            statuses.setdefault(image_id, []).append(status)
    return statuses


def snapshot(glance: Glance) -> tuple[list[sa.Row], list[tuple[Path, int]]]:
    """Every row of images and locations, every file with its size."""
    rows: list[sa.Row] = []
    with glance.database.engine.connect() as connection:
        for table in ("images", "image_locations"):
            rows += connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY id")).all()
    return rows, [
        (file, file.stat().st_size)
        for store in STORES
        for file in sorted(glance.data_directory(store).iterdir())
    ]


def show(heading: str, glance: Glance) -> None:
    """What Glance's database says and what lies in the stores."""
    locations = location_statuses(glance.database)
    table = Table(title=heading, title_justify="left", title_style="bold")
    for column in ("status", "images", "locations", *(f"files in {store}" for store in STORES)):
        table.add_column(column, justify="left" if column == "status" else "right")
    images = Counter(image_statuses(glance.database).values())
    copies = Counter(status for statuses in locations.values() for status in statuses)
    for status in ("active", "pending_delete", "deleted"):
        table.add_row(status, str(images[status]), str(copies[status]))
    table.add_section()
    table.add_row("bytes on disk", "", "", *(occupied(glance, store) for store in STORES))
    console.print(table)


def occupied(glance: Glance, store: str) -> str:
    sizes = [file.stat().st_size for file in glance.data_directory(store).iterdir()]
    return f"{len(sizes)} = {sum(sizes) // KILOBYTE} KiB"


def title(text: str) -> None:
    console.print()
    console.rule(f"[bold]{text}", align="left", characters="─")


def say(text: str) -> None:
    console.print(f"  {text}")


def quote(output: str) -> None:
    console.print(textwrap.indent(output.rstrip(), "  │ ", lambda _: True), markup=False)


if __name__ == "__main__":
    sys.exit(main())
