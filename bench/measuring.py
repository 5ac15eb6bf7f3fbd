"""What all rows are measured with: servers, fresh scenes, and a memory of what was measured."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from bench import contenders, scene
from bench.contenders import Contender
from bench.places import Place
from bench.results import Measured, short
from bench.scene import Images, Scene
from lab.databases import Servers

STORE = "images"


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    :param full: all of it, rather than what takes minutes.
    :param scale: of the numbers of images; less than 1 only shows that everything works.
    :param repeat: turns of each contender, where they are cheap.
    """

    full: bool = False
    scale: float = 1.0
    repeat: int = 1

    def images(self, count: int) -> int:
        return max(1, round(count * self.scale))

    def either(self, quick: Any, full: Any) -> Any:
        return full if self.full else quick


class Bench:
    """Measures one row: what it finds out is in ``measured`` and ``failed``."""

    def __init__(self, servers: Servers, effort: Effort) -> None:
        self.effort = effort
        self.measured: list[Measured] = []
        self.failed: list[str] = []
        self._servers = servers
        self._started = time.monotonic()

    def scene(
        self,
        database: str,
        places: Mapping[str, type[Place]] | type[Place],
        images: Images | None = None,
    ) -> AbstractContextManager[Scene]:
        """A fresh one."""
        if isinstance(places, type):
            places = {STORE: places}
        return scene.scene(self._servers.get(database), places, images)

    def measure(self, contender: Contender, scene: Scene, images: int, **more: Any) -> Measured:
        """Let it empty this scene; said and remembered."""
        measured = contenders.measure(contender, scene, images, **more)
        self.record(measured)
        return measured

    def record(self, measured: Measured) -> None:
        self.measured.append(measured)
        beside = f", beside {measured.beside:,}" if measured.beside else ""
        left = f", left {measured.images - measured.done}" * (measured.done < measured.images)
        self.say(
            f"{measured.contender}, pool {measured.pool}"
            f"{f', {measured.workers} workers' if measured.workers > 1 else ''}: "
            f"{measured.done:,} images{beside} in {measured.seconds:.2f} s, "
            f"{short(measured.per_second)}/s, CPU {measured.cpu_seconds:.2f} s, "
            f"{measured.peak_mib:.0f} MiB{left}"
        )

    @contextmanager
    def surviving(self, what: object) -> Iterator[None]:
        """Round one measurement: when it fails this is said, and the others go on."""
        try:
            yield
        except Exception as error:
            reason = f"{what}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
            self.failed.append(reason)
            self.say(f"FAILED: {reason}")

    def say(self, what: str) -> None:
        print(f"  {time.monotonic() - self._started:6.1f} s  {what}", flush=True)
