"""The contract of a store driver."""

import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from oslo_config import cfg

from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Found, Looks, Target


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a driver says of itself, as data.

    :param schemes: URL schemes it understands.
    :param blocks: its calls block the thread: they are made in native threads, so they
        may not log, lock or raise anything but errors of errors.py.
    :param batch: the most locations that one ``delete`` takes.
    :param seconds: how long one ``delete`` may take: batches grow up to that.  Longer where
        a request costs a round trip whatever it holds.
    :param at_least: so many in one ``delete``, if there are so many and the time allows: each
        batch has its rows read once more, so smaller ones cost more than they gain.
    :param may_hang: whether a call may never return, as on a file system whose server is gone:
        nobody waits much longer than call_timeout for its end.  Others end by themselves.
    :param says_gone: whether ``delete`` tells an object that is not there from one that it
        deleted.  S3 does not: it answers success to both.
    """

    schemes: frozenset[str]
    blocks: bool
    batch: int
    seconds: float = 0.05
    at_least: int = 1
    may_hang: bool = False
    says_gone: bool = True


#: In the section of every store.
COMMON_OPTS = [
    cfg.IntOpt(
        "scrub_max_connections",
        min=1,
        max=4096,
        mutable=True,
        help="The most calls, and so connections, to this store at the same time; scrub_pool_size "
        "without it.",
    ),
    cfg.FloatOpt(
        "scrub_max_rate",
        min=0.01,
        mutable=True,
        help="The most locations a second that each scrubber process deletes from this store. "
        "Without it there is no limit until the store itself asks for patience.",
    ),
]


#: In the section of stores that have buckets, containers or pools.
ALSO_IN = cfg.ListOpt(
    "scrub_also_in",
    default=[],
    help="Other buckets, containers or pools of this store that scrubber may delete from. A "
    "location in any other is refused: a row's URL may point anywhere that the store's "
    "credentials reach.",
)


@dataclass(frozen=True, slots=True)
class Section:
    """Where a store is configured.

    :param store: its id; its type in single-store mode.
    :param kind: its type, the name of the driver's entry point.
    :param name: the section that holds its options.
    :param options: their values, of now: what is mutable may change while a run goes on.
    :param call_timeout: seconds that one request may take.
    :param pool_size: how many calls may run at once in all stores together.
    :param conf: the whole configuration, for a library that reads its options itself.
    """

    store: str
    kind: str
    name: str
    options: Any
    call_timeout: Callable[[], float]
    pool_size: Callable[[], int]
    conf: cfg.ConfigOpts

    def required(self, option: str) -> str:
        """The value of an option that this store cannot do without.

        :raises ConfigError: it is not set.
        """
        if value := self.options[option]:
            return str(value)
        raise self.wrong(option, "is not set: copy the section from glance-api.conf")

    def wrong(self, option: str, what: str) -> errors.ConfigError:
        """Says what is wrong with an option: ``what`` follows its name, and quotes no secret."""
        return errors.ConfigError(f"option {option} in section [{self.name}] {what}")

    @contextmanager
    def importing(self, package: str, hint: str) -> Iterator[None]:
        """Round the import of a library that only this type of store needs.

        :param hint: how to install it.
        :raises ConfigError: it is not installed, or broken.
        """
        try:
            yield
        except ImportError as missing:
            raise errors.ConfigError(
                f"section [{self.name}]: a store of type {self.kind} needs {package}, which cannot "
                f"be imported ({missing}): {hint}"
            ) from None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is; see :meth:`Driver.root` and :meth:`Driver.identify`."""

    root: str
    identity: str


class Hanging(Protocol):
    """A call that did not end in time, and may yet."""

    @property
    def ended(self) -> bool: ...


class Driver(abc.ABC):
    """One configured store.

    Foreign exceptions are translated inside the driver into those of errors.py.  A call
    that concerns the store as a whole raises :class:`errors.Unavailable`; what concerns
    one location comes back in its place in the answers.
    """

    abilities: ClassVar[Abilities]

    def __init__(self, section: Section) -> None:
        self.store = section.store
        self.section = section
        #: A call whose end nobody waits for any more: while it hangs, no other is made.
        self.hanging: Hanging | None = None

    @classmethod
    @abc.abstractmethod
    def options(cls) -> list[cfg.Opt]:
        """The options it reads in the store's own section, beside COMMON_OPTS."""

    @classmethod
    def options_of_ours(cls) -> list[cfg.Opt]:
        """Those that the sample configuration explains."""
        return cls.options()

    @property
    def connections(self) -> int:
        """The most calls at the same time."""
        return int(self.section.options.scrub_max_connections or self.section.pool_size())

    @property
    def max_rate(self) -> float | None:
        """The most locations a second, None for no limit."""
        most: float | None = self.section.options.scrub_max_rate
        return most

    @property
    def family(self) -> str:
        """Drivers of one family give a live URL the same identities, so one is asked for all."""
        return f"{type(self).__name__}:{self.store}"

    @abc.abstractmethod
    def probe(self) -> None:
        """See that the root (directory, bucket, container, pool) is there.

        :raises Unavailable: it is not, or cannot be used; the message says why.
        """

    def space_watch(self) -> Callable[[], bool] | None:
        """A store call that says whether space is short in it; None if nobody wants to know.

        The call raises :class:`errors.Unavailable` if the store does not say.
        """
        return None

    def resolve(self) -> None:  # noqa: B027 - most stores have one name only
        """See what its roots are really called; once per run, before identities are asked for.

        :raises Unavailable: nobody can say; identities are of the names as configured then.
        """

    def root(self, url: str) -> str:
        """The part of the store that holds it, and that has to prove itself on its own.

        :raises Refused: the URL is none that this store may delete.
        """
        self.identify(url)
        return ""

    def where(self, url: str) -> "Place":
        """Its root and its identity at once.

        :raises Refused: the URL is none that this store may delete.
        """
        return Place(self.root(url), self.identify(url))

    def holds_something(self, root: str) -> bool:  # noqa: ARG002 - most have one root
        """Whether that root, when it was probed, held anything at all.

        An empty one may be a mount point without its file system: then even few
        missing objects are not believed.
        """
        return True

    @abc.abstractmethod
    def identify(self, url: str) -> str:
        """What ``delete`` would delete, free of credentials; equal for equal objects.

        :raises Refused: the URL is none that this store may delete.
        """

    @abc.abstractmethod
    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        """For each URL of a live location every identity it may stand for, at worst too many."""

    def is_plain(self, url: str) -> bool:  # noqa: ARG002
        """Whether it is written as Glance writes it, and so means one object and no other.

        Then all URLs that differ from it only in an image's id mean the objects of these names:
        a run does not read each of them.  Without such an answer it does.
        """
        return False

    @abc.abstractmethod
    def look(self, targets: Sequence[Target]) -> Looks:
        """What is there now, for each target; changes nothing.

        :raises Unavailable: the store as a whole cannot be used.
        """

    @abc.abstractmethod
    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        """Delete the objects, one after another in the order given; one answer for each.

        An Unavailable among the answers concerns the store as a whole, too.

        :param proceed: asked before each request to the store; once it says no, what is left
            is answered with :class:`errors.NotSent`, and what was begun with :class:`errors.Begun`.
        :raises Unavailable: the store as a whole cannot be used; nothing may be taken as
            deleted then, though some may be.
        """

    def rehearsed(self, target: Target, found: Found) -> Answer:
        """What ``delete`` would answer for an object that ``look`` has found."""
        return Deleted(found.size or target.size or 0)

    def close(self) -> None:  # noqa: B027 - many drivers hold nothing
        """Give back what it holds; no call is in flight any more, but one that hangs."""


def always() -> bool:
    """For ``proceed``: to the end."""
    return True


def one_by_one(
    targets: Sequence[Target],
    delete: Callable[[Target], Answer],
    proceed: Callable[[], bool],
    is_of_all: Callable[[Answer], bool],
) -> Answers:
    """The answer to each; from one that is the store's to all of them on, the rest share it.

    :param delete: returns an answer, or raises it.
    """
    answers: list[Answer] = []
    rest: Answer = errors.NotSent("not sent")
    for target in targets:
        if not proceed():
            break
        try:
            answer = delete(target)
        except errors.StoreError as error:
            answer = error
        answers.append(answer)
        if is_of_all(answer):
            rest = answer
            break
    return answers + [rest] * (len(targets) - len(answers))


class Gone(errors.Gone):
    """The usual words for an object that is not there."""

    def __init__(self) -> None:
        super().__init__("not in the store")
