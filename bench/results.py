"""What was measured, kept as JSON, and what it says: ratios, and whether they are good enough."""

import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCRUBBER = "scrubber"
UPSTREAM = "glance-scrubber"
LIMIT = "the limit"


@dataclass(frozen=True)
class Measured:
    """A contender at work once: whole processes, start-up included.

    :param pool: how many calls at once.
    :param workers: how many processes shared the work.
    :param turn: how often this was measured before.
    :param images: that were there to delete.
    :param done: of these, what is gone, rows and objects.
    :param kernel_seconds: of cpu_seconds, the kernel's.
    :param server_cpu_seconds: of databases and stores meanwhile, by program.
    :param peak_mib: the most that was in memory.
    :param idle_seconds: what it takes to find nothing, if that was measured.
    :param beside: what the row varies, such as how many tombstones there were.
    """

    contender: str
    pool: int
    workers: int
    turn: int
    images: int
    done: int
    seconds: float
    cpu_seconds: float = 0.0
    kernel_seconds: float = 0.0
    server_cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    peak_mib: float = 0.0
    idle_seconds: float = 0.0
    beside: int = 0

    @property
    def per_second(self) -> float:
        return self.done / self.seconds

    def per_second_at(self, images: int) -> float:
        """With so many images, if each one more takes as long as those that were measured.

        That is not known of a run that was hardly longer than one that finds nothing.
        """
        if images == self.done or self.seconds < 1.5 * self.idle_seconds:
            return self.per_second
        return images / (self.idle_seconds + images * self.seconds_each)

    @property
    def seconds_each(self) -> float:
        """Without what it takes to find nothing."""
        return max(0.0, self.seconds - self.idle_seconds) / max(1, self.done)

    @property
    def own_seconds(self) -> float:
        """Of processors, without the kernel's."""
        return self.cpu_seconds - self.kernel_seconds

    @property
    def cpu_each(self) -> float:
        """Seconds, start-up included."""
        return self.cpu_seconds / max(1, self.done)


@dataclass(frozen=True)
class Result:
    """One row, measured.

    :param conditions: machine, versions, date.
    :param failed: what could not be measured, and why.
    """

    conditions: Mapping[str, Any]
    measured: Sequence[Measured]
    failed: Sequence[str] = ()


Results = dict[str, Result]


def load(file: Path) -> Results:
    """By the key of the row; nothing if there is no such file."""
    if not file.exists():
        return {}
    return {
        key: Result(
            value["conditions"], [Measured(**each) for each in value["measured"]], value["failed"]
        )
        for key, value in json.loads(file.read_text()).items()
    }


def save(file: Path, results: Results) -> None:
    """In one step: what was measured before is never lost."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    document = {key: asdict(result) for key, result in results.items()}
    draft.write_text(json.dumps(document, indent=1) + "\n")
    draft.replace(file)


# Choosing -----------------------------------------------------------------------------------


def of(measured: Iterable[Measured], contender: str, **wanted: object) -> list[Measured]:
    """A contender's measurements that have these values."""
    return [
        each
        for each in measured
        if each.contender == contender
        and all(getattr(each, name) == value for name, value in wanted.items())
    ]


def fastest(measured: Iterable[Measured]) -> Measured | None:
    """The best turn: what else a machine does only ever makes a program slower."""
    return min(measured, key=operator.attrgetter("seconds"), default=None)


def best_upstream(measured: Iterable[Measured], images: int) -> Measured | None:
    """Glance's own at its best pool size, for so many images."""
    return max(of(measured, UPSTREAM), key=lambda each: each.per_second_at(images), default=None)


# Judging ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """How much is enough."""

    bound: float
    met_by: Callable[[float, float], bool]
    sign: str

    def met(self, value: float) -> bool:
        return self.met_by(value, self.bound)


def at_least(bound: float) -> Target:
    return Target(bound, operator.ge, "≥")


def at_most(bound: float) -> Target:
    return Target(bound, operator.le, "≤")


@dataclass(frozen=True)
class Figure:
    """A number, and what it should be.

    :param unit: written behind it, and behind the target.
    """

    what: str
    value: float
    target: Target | None = None
    unit: str = ""

    @property
    def said(self) -> str:
        return f"{short(self.value)}{self.unit}"

    @property
    def judged(self) -> str:
        """The target, and whether it is met; nothing without one."""
        if self.target is None:
            return ""
        verdict = "met" if self.target.met(self.value) else "**not met**"
        return f"{self.target.sign} {short(self.target.bound)}{self.unit}: {verdict}"


def short(number: float) -> str:
    """Three digits at most are worth reading."""
    if abs(number) >= 100:
        return f"{float(f'{number:.3g}'):,.0f}"
    if abs(number) >= 10:
        return f"{number:.3g}"
    return f"{number:.2f}".rstrip("0").rstrip(".") if number else "0"
