"""Who is measured: scrubber, Glance's own glance-scrubber, and a bare loop, the limit."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench import programs
from bench.programs import Program, ProgramFailed
from bench.results import LIMIT, UPSTREAM, Measured
from bench.scene import Scene
from lab.glance import ISOLATED, UPSTREAM_SCRUBBER, glance_python

BARE_LOOP = Path(__file__).with_name("bare_loop.py")


@dataclass(frozen=True)
class Contender:
    """One of the three.

    :param pool: how many calls at once (scrub_pool_size).
    :param workers: how many processes share the work.
    """

    name: str
    pool: int = 16
    workers: int = 1

    def __str__(self) -> str:
        several = f", {self.workers} workers" if self.workers > 1 else ""
        return f"{self.name}, pool {self.pool}{several}"


def measure(contender: Contender, scene: Scene, images: int, **more: Any) -> Measured:
    """Let it empty the scene, and look at what is left.

    :param more: of what is measured, such as the turn.

    :raises ProgramFailed: it has failed, or left something that only glance-scrubber may leave.
    """
    taken = programs.run(*_programs(contender, scene), log=scene.log)
    left = scene.left()
    if not (left.nothing or contender.name == UPSTREAM):
        raise ProgramFailed(f"it left {left.rows} rows and {left.objects} objects")
    objects = sum(place.objects for place in scene.places.values())
    return Measured(
        contender=contender.name,
        pool=contender.pool,
        workers=contender.workers,
        turn=more.pop("turn", 0),
        images=images,
        done=images - max(left.rows, -(-left.objects // objects)),
        seconds=taken.seconds,
        cpu_seconds=taken.cpu_seconds,
        kernel_seconds=taken.kernel_seconds,
        server_cpu_seconds=taken.server_cpu_seconds,
        peak_mib=taken.peak_mib,
        **more,
    )


def _programs(contender: Contender, scene: Scene) -> list[Program]:
    if contender.name == UPSTREAM:
        return [_upstream(scene, contender.pool)]
    if contender.name == LIMIT:
        return [Program([sys.executable, BARE_LOOP, scene.bare_file(contender.pool)])]
    argv = scrubber_argv(scene, contender.pool)
    if contender.workers == 1:
        return [Program(argv)]
    if _knows_workers():
        return [Program([*argv, "--workers", str(contender.workers)])]
    return [Program(argv)] * contender.workers


def _upstream(scene: Scene, pool: int) -> Program:
    file = scene.upstream_file(pool)
    return Program(
        [glance_python(), *ISOLATED, "-c", UPSTREAM_SCRUBBER, "--config-file", file],
        {"OS_GLANCE_CONFIG_DIR": str(file.parent), "PYTHONWARNINGS": "ignore"},
    )


def scrubber_argv(scene: Scene, pool: int = 16) -> list[str | Path]:
    return [_scrubber(), "--config-file", scene.scrubber_file(pool)]


def _scrubber() -> Path:
    return Path(sys.executable).with_name("scrubber")


@cache
def _knows_workers() -> bool:
    """Whether one scrubber can be several processes; else several are started together."""
    told = subprocess.run([_scrubber(), "--help"], capture_output=True, text=True, check=True)
    return "--workers" in told.stdout
