"""One Glance with its stores, and the scrubber that cleans up behind it."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from glanceclient.v2.client import Client

from functional import program
from functional.program import Disk, Result, Running
from functional.rows import OF_IMAGES, Tables, utcnow
from functional.staging import Staging
from lab.glance import ADMIN_ROLES, Glance, Options, merge

#: Whatever was removed from a live image may go at once, where a test does not say otherwise.
AT_ONCE: Options = {"scrubber": {"removed_location_age": 0}}


class Cloud:
    """A running Glance; ``scrub`` and ``restore`` run the program on its database.

    Images that ``keep`` uploads are downloaded again after every run: no run may ever
    touch their bytes.
    """

    def __init__(self, glance: Glance) -> None:
        self.glance = glance
        self.tables = Tables(glance.database)
        self.staging = Staging(glance)
        self.kept: dict[str, bytes] = {}
        self._clients: dict[str, Client] = {}
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self.staging.close()
        self.tables.close()

    def reset(self) -> None:
        """As it was when Glance was installed: no images, empty stores."""
        self.kept.clear()
        self.tables.clear()
        for directory in self.data_directories.values():
            clear(directory)

    @property
    def data_directories(self) -> Mapping[str, Path]:
        stores = self.glance.stores
        return {"file": stores} if isinstance(stores, Path) else stores

    # Images

    def upload(
        self, store: str | None = None, *, data: bytes | None = None, **properties: Any
    ) -> str:
        """An active image of random bytes in the store, of project ``owner``."""
        owner = properties.pop("owner", "project")
        data = os.urandom(200) if data is None else data
        return self.glance.upload(self.client(owner), data, store=store, **properties)

    def keep(self, store: str | None = None, **properties: Any) -> str:
        """A live image that every run must leave alone."""
        data = os.urandom(300)
        image_id = self.upload(store, data=data, **properties)
        self.kept[image_id] = data
        return image_id

    def client(self, owner: str) -> Client:
        """An administrator in that project: may publish images and see deleted ones' rows."""
        if owner not in self._clients:
            self._clients[owner] = self.glance.client(project=owner, roles=ADMIN_ROLES)
        return self._clients[owner]

    def deleted(self, store: str | None = None, **properties: Any) -> str:
        """An image that was deleted through the API."""
        image_id = self.upload(store, **properties)
        self.glance.delete(image_id)
        return image_id

    def stuck(self, store: str) -> str:
        """A deleted image whose scrubber died between its locations and the image itself."""
        image_id = self.upload(store)
        self.staging.crash_after_scrub(image_id=image_id)
        self.file(image_id, store).unlink()
        # Some time lay between delete and scrub; else it would look like a late copy.
        self.age(image_id, 10)
        now = utcnow()
        for row in self.tables.locations(image_id):
            self.tables.change_location(row["id"], deleted_at=now, updated_at=now)
        return image_id

    def many_deleted(self, count: int, store: str = "fast", owner: str = "project") -> list[str]:
        """Many of them, by Glance's own code in one process."""
        return self._many(count, store, owner, delete=True)

    def many(self, count: int, store: str = "fast", owner: str = "project") -> list[str]:
        """Many live images, by Glance's own code in one process."""
        return self._many(count, store, owner, delete=False)

    def _many(self, count: int, store: str, owner: str, *, delete: bool) -> list[str]:
        ids: list[str] = self.staging.create(
            count=count,
            directory=str(self.data_directories[store]),
            store=store,
            owner=owner,
            size=100,
            delete=delete,
        )
        return ids

    def age(self, image_id: str, seconds: float) -> None:
        """As if all that happened to the image had happened so much earlier."""
        self.tables.age(image_id, seconds)
        for store in self.data_directories:
            if (file := self.file(image_id, store)).exists():
                modified = file.stat().st_mtime - seconds
                os.utime(file, (modified, modified))

    def file(self, image_id: str, store: str = "fast") -> Path:
        return self.glance.file(image_id, store)

    def files(self, store: str) -> set[str]:
        """The names of all that is in a store."""
        return set(os.listdir(self.data_directories[store]))

    # The scrubber

    def configuration(self, options: Options | None = None) -> Path:
        """A scrubber.conf of its own."""
        file = self.glance.directory / f"scrubber-{next(self._numbers)}.conf"
        return self.glance.write_scrubber_configuration(file, merge(AT_ONCE, options or {}))

    def scrub(self, *flags: str, options: Options | None = None) -> Result:
        """One run; the images that are kept are whole after it."""
        result = program.run(self.configuration(options), *flags)
        self.check_kept()
        return result

    def restore(self, image_id: str, *flags: str, options: Options | None = None) -> Result:
        return self.scrub("--restore", image_id, *flags, options=options)

    def start(
        self, *flags: str, options: Options | None = None, disk: Disk | None = None
    ) -> Running:
        """A scrubber in the background."""
        name, configuration = f"running-{next(self._numbers)}", self.configuration(options)
        return Running(configuration, self.glance.directory, name, *flags, disk=disk)

    # Promises

    def check_kept(self) -> None:
        for image_id, data in self.kept.items():
            assert self.glance.download(image_id) == data, f"live image {image_id} lost its bytes"

    def check_scrubbed(self, image_ids: Iterable[str]) -> None:
        """Rows as Glance leaves a deleted image, and no bytes in any store."""
        ids = set(image_ids)
        rows = {name: self.tables.of_images(name, ids) for name in OF_IMAGES}
        assert {row["id"] for row in rows["images"]} == ids
        for image in rows["images"]:
            assert image["status"] == "deleted", image
        for location in rows["image_locations"]:
            self.check_finished(location)
        for name, of_table in rows.items():
            for row in of_table:
                assert row["deleted"], (name, row)
                assert row["deleted_at"] is not None, (name, row)
        for store in self.data_directories:
            assert not ids & self.files(store), f"still in store {store}"

    def check_finished(self, row: Mapping[str, Any]) -> None:
        assert (row["status"], bool(row["deleted"])) == ("deleted", True), row
        assert row["deleted_at"] is not None
        assert row["updated_at"] == row["deleted_at"], "looks claimed"


#: Makes clouds, each once; the fixture ``clouds`` says how.
NewCloud = Callable[..., Cloud]


def clear(directory: Path) -> None:
    """Remove all that is in a directory."""
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
