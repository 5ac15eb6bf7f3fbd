"""Glance's tables as they are: read whole, and changed where only time or damage would do it."""

import datetime
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lab.databases import Database
from scrubber import config, pool
from scrubber.sources.engine import Engine

Rows = list[dict[str, Any]]

#: What belongs to an image; children first, as foreign keys want it.
OF_IMAGES = ("image_members", "image_tags", "image_properties", "image_locations", "images")

#: What Glance's schema wants of every image, and no test asks about.
ANY_IMAGE = {
    "visibility": "shared",
    "min_disk": 0,
    "min_ram": 0,
    "protected": False,
    "os_hidden": False,
}


def utcnow() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def scrubbers_engine(database: Database, directory: Path) -> Engine:
    """scrubber's own connection, configured by a file in this directory."""
    file = directory / "scrubber.conf"
    file.write_text(f"[database]\nconnection = {database.url}\n")
    return Engine(config.load(["--config-file", str(file)]).database, pool.Flag())


class Tables:
    """The tables of one Glance."""

    def __init__(self, database: Database) -> None:
        self._engine = sa.create_engine(database.url)

    def close(self) -> None:
        self._engine.dispose()

    @cached_property
    def _metadata(self) -> sa.MetaData:
        metadata = sa.MetaData()
        metadata.reflect(self._engine)
        return metadata

    def table(self, name: str) -> sa.Table:
        return self._metadata.tables[name]

    # Reading

    def read(self, query: Any) -> Rows:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def image(self, image_id: str) -> dict[str, Any]:
        (image,) = self._belonging("images", image_id, "id")
        return image

    def locations(self, image_id: str) -> Rows:
        """Oldest first."""
        return self._belonging("image_locations", image_id)

    def location(self, image_id: str, store: str) -> dict[str, Any]:
        """The newest location of the image in that store."""
        found = [
            row for row in self.locations(image_id) if f'"{store}"' in (row["meta_data"] or "")
        ]
        return found[-1]

    def belongings(self, image_id: str) -> dict[str, Rows]:
        """Properties, tags and members, deleted ones too."""
        tables = ("image_properties", "image_tags", "image_members")
        return {name: self._belonging(name, image_id) for name in tables}

    def _belonging(self, name: str, image_id: str, column: str = "image_id") -> Rows:
        table = self.table(name)
        query = sa.select(table).where(table.c[column] == image_id).order_by(table.c.id)
        return self.read(query)

    def of_images(self, name: str, image_ids: Collection[str]) -> Rows:
        """The rows of one table that belong to these images."""
        table = self.table(name)
        column = table.c["id" if name == "images" else "image_id"]
        return self.read(sa.select(table).where(column.in_(image_ids)))

    def statuses(self) -> dict[str, str]:
        images = self.table("images")
        return {row["id"]: row["status"] for row in self.read(sa.select(images))}

    def location_statuses(self, image_id: str) -> list[str]:
        return [row["status"] for row in self.locations(image_id)]

    def dump(self) -> dict[str, list[str]]:
        """Every row of every table, as text."""
        return {
            name: sorted(map(repr, self.read(sa.select(table))))
            for name, table in self._metadata.tables.items()
        }

    def of_image(self, image_id: str) -> dict[str, Rows]:
        """Every row that belongs to one image."""
        return {
            "images": [self.image(image_id)],
            "image_locations": self.locations(image_id),
            **self.belongings(image_id),
        }

    # What only time or damage does

    def execute(self, *statements: Any) -> None:
        with self._engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def change_location(self, location_id: int, **values: Any) -> None:
        locations = self.table("image_locations")
        self.execute(sa.update(locations).where(locations.c.id == location_id).values(values))

    def change_image(self, image_id: str, **values: Any) -> None:
        images = self.table("images")
        self.execute(sa.update(images).where(images.c.id == image_id).values(values))

    def age(self, image_id: str, seconds: float) -> None:
        """As if all that happened to the image had happened so much earlier."""
        earlier = datetime.timedelta(seconds=seconds)
        for name, rows in self.of_image(image_id).items():
            table = self.table(name)
            for row in rows:
                times = {
                    column: row[column] - earlier
                    for column in ("created_at", "updated_at", "deleted_at")
                    if row[column] is not None
                }
                self.execute(sa.update(table).where(table.c.id == row["id"]).values(times))

    def claim(self, location_ids: Iterable[int], seconds_ago: float = 0) -> datetime.datetime:
        """As another scrubber would claim these locations; returns what marks the claim."""
        moment = utcnow().replace(microsecond=0) + datetime.timedelta(seconds=1 - seconds_ago)
        for location_id in location_ids:
            self.change_location(location_id, updated_at=moment)
        return moment

    def release(self, location_ids: Iterable[int]) -> None:
        locations = self.table("image_locations")
        self.execute(
            sa.update(locations)
            .where(locations.c.id.in_(list(location_ids)))
            .values(updated_at=locations.c.deleted_at)
        )

    def clear(self) -> None:
        """Forget all images."""
        self.execute(*(sa.delete(self.table(name)) for name in OF_IMAGES))
