"""Canaries: a few live locations of each root of each store, to prove it by."""

import random
from collections.abc import Callable, Collection

from scrubber import errors
from scrubber.model import Image, Location
from scrubber.planning.proof import CANARIES
from scrubber.stores import base
from scrubber.stores.registry import Stores

#: So many more are remembered: of some the image is deactivated, or deleted by now.
_SPARE = 4


class Canaries:
    """Some of the live locations that a run comes by.

    :param images: the images of some ids, as they are now.
    """

    def __init__(
        self, stores: Stores, images: Callable[[Collection[str]], dict[str, Image]]
    ) -> None:
        self._stores = stores
        self._images = images
        self._samples: dict[str, dict[str, _Sample]] = {}

    def consider(self, location: Location) -> None:
        """A live one: it may become a canary; not if no store holds it."""
        if location.status != "active":
            return
        try:
            driver = self._stores.holder(location)
            root = driver.root(location.url)
        except errors.StoreError:
            return
        self._samples.setdefault(driver.store, {}).setdefault(root, _Sample()).consider(location)

    def of(self, driver: base.Driver) -> dict[str, list[Location]]:
        """Those of that store, by root: locations of images that are active now.

        :raises SourceUnavailable: nobody can say what these images are.
        """
        samples = self._samples.get(driver.store, {})
        ids = {at.image_id for sample in samples.values() for at in sample.kept}
        images = self._images(ids) if ids else {}
        sound = {id for id, at in images.items() if at.status == "active" and not at.deleted}
        found = {
            root: [at for at in sample.kept if at.image_id in sound]
            for root, sample in samples.items()
        }
        return {
            root: random.sample(locations, min(len(locations), CANARIES))
            for root, locations in found.items()
            if locations
        }


class _Sample:
    """A few locations, each as likely as any other (reservoir sampling)."""

    def __init__(self) -> None:
        self.kept: list[Location] = []
        self._seen = 0

    def consider(self, location: Location) -> None:
        self._seen += 1
        if len(self.kept) < _SPARE * CANARIES:
            self.kept.append(location)
        elif (place := random.randrange(self._seen)) < len(self.kept):
            self.kept[place] = location
