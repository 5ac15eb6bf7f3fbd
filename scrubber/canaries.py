"""Canaries: a few live locations of each root of each store, to prove it by."""

import heapq
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from scrubber import errors
from scrubber.model import Image, Location
from scrubber.planning.proof import CANARIES
from scrubber.stores import base
from scrubber.stores.registry import Stores

#: So many times as many are remembered: of some the image is deactivated, or deleted by now.
_SPARE = 8


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

    def consider(self, location: Location, stands_for: int = 1) -> None:
        """A live one: it may become a canary; not if no store holds it.

        :param stands_for: of so many that are alike it alone was read.
        """
        if location.status != "active":
            return
        try:
            driver = self._stores.holder(location)
            root = driver.root(location.url)
        except errors.StoreError:
            return
        sample = self._samples.setdefault(driver.store, {}).setdefault(root, _Sample())
        sample.consider(location, stands_for)

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


@dataclass(order=True, frozen=True, slots=True)
class _Drawn:
    lot: float
    location: Location = field(compare=False)


class _Sample:
    """A few locations, each as likely as any other that stands for as many.

    A reservoir with weights (Efraimidis and Spirakis, 2006): the highest lots win.
    """

    def __init__(self) -> None:
        self._drawn: list[_Drawn] = []

    @property
    def kept(self) -> list[Location]:
        return [drawn.location for drawn in self._drawn]

    def consider(self, location: Location, stands_for: int) -> None:
        drawn = _Drawn(random.random() ** (1 / stands_for), location)
        if len(self._drawn) < _SPARE * CANARIES:
            heapq.heappush(self._drawn, drawn)
        elif drawn.lot > self._drawn[0].lot:
            heapq.heapreplace(self._drawn, drawn)
