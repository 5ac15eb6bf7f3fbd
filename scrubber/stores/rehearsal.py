"""A driver for dry runs: looks where another would delete."""

from collections.abc import Callable, Iterable, Sequence

from oslo_config import cfg

from scrubber import errors
from scrubber.model import Answer, Answers, Found, Looks, Target
from scrubber.stores import base


class RehearsalDriver(base.Driver):
    """Stands in for a driver; what is there counts as deleted, and nothing is touched."""

    def __init__(self, driver: base.Driver) -> None:
        super().__init__(driver.section)
        self.abilities = driver.abilities  # type: ignore[misc] # of this instance, as its twin's
        self._driver = driver

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return []

    @property
    def max_rate(self) -> float | None:
        """None: it deletes nothing that a limit could be for."""
        return None

    @property
    def family(self) -> str:
        return self._driver.family

    def resolve(self) -> None:
        self._driver.resolve()

    def root(self, url: str) -> str:
        return self._driver.root(url)

    def holds_something(self, root: str) -> bool:
        return self._driver.holds_something(root)

    def probe(self) -> None:
        self._driver.probe()

    def identify(self, url: str) -> str:
        return self._driver.identify(url)

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return self._driver.mentions(urls)

    def is_plain(self, url: str) -> bool:
        return self._driver.is_plain(url)

    def look(self, targets: Sequence[Target]) -> Looks:
        return self._driver.look(targets)

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        return [
            self._rehearse(target) if proceed() else errors.NotSent("not sent")
            for target in targets
        ]

    def _rehearse(self, target: Target) -> Answer:
        (look,) = self.look([target])
        return self._driver.rehearsed(target, look) if isinstance(look, Found) else look

    def close(self) -> None:
        self._driver.close()
