"""The image caches of Glance's API nodes: what is scrubbed goes from each of them, too.

In the background: a node that hangs holds up no run.  Whatever is cached costs disk space until
the node prunes its cache by itself, so a node that fails is worth a warning, and no more.
"""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oslo_config import cfg

from scrubber import errors, pool
from scrubber.glance.client import Glance
from scrubber.glance.section import connect
from scrubber.model import Settled
from scrubber.options import GLANCE_SECTION

LOG = logging.getLogger(__name__)

#: Images are looked for together: those of so many seconds.
BATCH_SECONDS = 2.0

#: After a failure a node is left alone for so many seconds.
PAUSE_SECONDS = 60.0

#: No more images than that wait for a node that fails; its cache's own pruning gets the others.
MOST_WAITING = 100_000


@dataclass(eq=False, slots=True)
class _Node:
    """One API node.

    :param waiting: images that may be in its cache.
    :param works: whether it answered when it was asked last.
    """

    name: str
    glance: Glance
    waiting: set[str] = field(default_factory=set)
    works: bool = True

    def purge(self) -> None:
        """Ask once what it holds: most images are in no cache."""
        asked = set(self.waiting)  # what comes meanwhile may be in the cache as well
        try:
            for image in sorted(asked & self.glance.cached()):
                self._drop(image)
            self.waiting -= asked
        except errors.StoreError as error:
            if self.works:
                LOG.warning("The image cache of %s is not purged now: %s", self.name, error)
            self.works = False
        else:
            if not self.works:
                LOG.info("The image cache of %s is purged again.", self.name)
            self.works = True

    def _drop(self, image: str) -> None:
        with contextlib.suppress(errors.Gone):  # the node was quicker
            self.glance.uncache(image)
        self.waiting.discard(image)


class Caches:
    """Those of all nodes; each is asked by a green thread of its own.

    :param nodes: the API of each, by a name that may be shown.
    """

    def __init__(self, nodes: Sequence[tuple[str, Glance]]) -> None:
        self._nodes = [_Node(name, glance) for name, glance in nodes]
        self._ending = pool.Flag()
        self._came = pool.Bell()
        self._tasks = [pool.Task(self._keep_purging, node) for node in self._nodes]

    def settled(self, locations: Iterable[Settled]) -> None:
        """What became of locations of images."""
        for location in locations:
            if location.outcome.done:
                self.scrubbed(location.image)

    def scrubbed(self, image_id: str) -> None:
        """An image is scrubbed; what is in a cache of it goes soon."""
        for node in self._nodes:
            if len(node.waiting) < MOST_WAITING:
                node.waiting.add(image_id)
        self._came.ring()

    def _keep_purging(self, node: _Node) -> None:
        while not self._ending:
            if not node.waiting:
                self._came.wait()
                continue
            self._ending.wait(BATCH_SECONDS if node.works else PAUSE_SECONDS)
            node.purge()

    def close(self, seconds: float) -> None:
        """Purge what is left, for so many seconds at most."""
        self._ending.set()
        self._came.ring()
        for task, node in zip(self._tasks, self._nodes, strict=True):
            try:
                pool.within(seconds, task.join)
                if node.waiting:
                    pool.within(seconds, node.purge)
            except TimeoutError as late:
                LOG.warning("The image cache of %s is not purged: %s", node.name, late)
                task.kill()
            node.glance.close()


def open_caches(conf: cfg.ConfigOpts) -> Caches:
    """The caches that section [glance] names; nothing is sent yet.

    :raises ConfigError: the section cannot be used.
    """
    return Caches(nodes(conf))


def nodes(conf: cfg.ConfigOpts) -> list[tuple[str, Glance]]:
    """The API nodes whose caches section [glance] names, by names that may be shown.

    :raises ConfigError: the section cannot be used.
    """
    endpoints: list[str | None] = list(conf[GLANCE_SECTION].cache_endpoints) or [None]
    return [(_name(at, number), connect(conf, at)) for number, at in enumerate(endpoints)]


def _name(endpoint: str | None, number: int) -> str:
    """Not the URL, which may hold what nobody should read."""
    return "Glance" if endpoint is None else f"API node {number + 1} of cache_endpoints"
