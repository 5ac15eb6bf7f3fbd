"""Glance's API in memory: the interface of ``scrubber.glance.client.Glance``."""

import datetime
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from scrubber import errors
from scrubber.glance.client import Copy, MarkerLost
from scrubber.planning.retirement import ApiImage

TAG = "pending_delete"
AN_HOUR = datetime.timedelta(hours=1)


class FakeGlanceApi:
    """Images by id; ``calls`` is what was asked for.

    :param before: called with each call's name and arguments, before it is carried out: it may
        change images, or raise.
    """

    def __init__(self, stores: tuple[str, ...] = ("fast", "slow")) -> None:
        self.clock = datetime.datetime(2026, 1, 31, 12)
        self.images: dict[str, ApiImage] = {}
        self.members: dict[str, list[str]] = {}
        self.hidden: set[str] = set()
        self.calls: list[tuple[str, ...]] = []
        self.before: Callable[..., None] = lambda *_: None
        self._stores = stores

    # What a test does

    def add(self, *stores: str, ago: datetime.timedelta = AN_HOUR, **values: Any) -> str:
        """An active image with the tag, created and marked so long ago."""
        image = ApiImage(
            **{
                "id": str(uuid.uuid4()),
                "owner": "project",
                "name": None,
                "status": "active",
                "visibility": "private",
                "protected": False,
                "size": 100,
                "created_at": self.clock - ago,
                "updated_at": self.clock - ago,
                "tags": frozenset({TAG}),
                "stores": stores,
                **values,
            }
        )
        self.images[image.id] = image
        return image.id

    def change(self, image_id: str, **values: Any) -> None:
        self.images[image_id] = replace(self.images[image_id], **values)

    def asked(self, name: str) -> int:
        return sum(call[0] == name for call in self.calls)

    # What scrubber asks for

    def _enter(self, *call: str) -> None:
        self.calls.append(call)
        self.before(*call)

    def now(self) -> datetime.datetime:
        return self.clock

    def page(
        self, filters: Mapping[str, Any], limit: int, marker: str | None = None
    ) -> list[ApiImage]:
        self._enter("page", marker or "")
        found = sorted(
            (at for at in self.images.values() if self._matches(at, filters)),
            key=lambda image: (image.created_at, image.id),
        )
        if marker is not None:
            if marker not in self.images:
                raise MarkerLost
            last = self.images[marker]
            found = [at for at in found if (at.created_at, at.id) > (last.created_at, last.id)]
        return found[:limit]

    def _matches(self, image: ApiImage, filters: Mapping[str, Any]) -> bool:
        hidden = filters.get("os_hidden", "false") == "true"
        tags, ids = filters.get("tag", []), filters.get("id", "").removeprefix("in:").split(",")
        since = filters.get("created_at", "gte:0001-01-01").removeprefix("gte:").removesuffix("Z")
        return (
            (image.id in self.hidden) == hidden
            and image.tags.issuperset(tags)
            and ("id" not in filters or image.id in ids)
            and image.created_at >= datetime.datetime.fromisoformat(since)
            and filters.get("status", image.status) == image.status
            and filters.get("owner", image.owner) == image.owner
        )

    def image(self, image_id: str) -> ApiImage:
        self._enter("image", image_id)
        return self._there(image_id)

    def _there(self, image_id: str) -> ApiImage:
        if image_id not in self.images:
            raise errors.Gone("no such image")
        return self.images[image_id]

    def accepted_members(self, image_id: str) -> list[str]:
        self._enter("accepted_members", image_id)
        return self.members.get(image_id, [])

    def delete(self, image_id: str) -> None:
        self._enter("delete", image_id)
        if self._there(image_id).protected:
            raise errors.Refused("protected")
        del self.images[image_id]

    def delete_copy(self, copy: Copy) -> None:
        self._enter("delete_copy", copy.image, copy.store)
        left = tuple(at for at in self._there(copy.image).stores if at != copy.store)
        assert left, "Glance refuses to delete the last copy"
        self.change(copy.image, stores=left, updated_at=self.clock)

    def untag(self, image_id: str, tag: str) -> None:
        self._enter("untag", image_id)
        self.change(image_id, tags=self.images[image_id].tags - {tag})

    def among(self, ids: Collection[str]) -> Iterator[ApiImage]:
        self._enter("among", *ids)
        return (self.images[id] for id in ids if id in self.images)

    def stores(self) -> list[str]:
        self._enter("stores")
        return list(self._stores)

    def close(self) -> None: ...
