"""Several processes on one database: each location is deleted once, and nobody stands idle."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.invariants import Kind, Violation, left, look, repeated
from chaos.scenario import Injected, Scenario, Site, Terms
from lab.processes import wait_until
from process.journal import Delete
from process.program import Program
from process.rows import Backlog

SERVERS = ("mariadb", "postgresql")
PROCESSES = 4
IMAGES = 20_000

#: While one pauses, or at the end has nothing to do, the others may delete so much of all: a
#: machine may have more to do than this.
LONG, LONG_AT_END = 0.4, 0.25

#: What the others may hold, whatever the backlog is: calls under way, and as much in their queues.
BATCH, SLOTS = 8, 16
HELD = 2 * (PROCESSES - 1) * SLOTS * BATCH


@dataclass(frozen=True)
class Pause:
    """A time in which a process deleted nothing.

    :param meanwhile: what others began to delete; ``last`` if it deletes nothing more.
    """

    seconds: float
    meanwhile: int
    last: bool


def play(site: Site, terms: Terms) -> list[Injected]:
    return [
        share(site, server, terms.count(IMAGES, least=500))
        for _ in terms.rounds()
        for server in SERVERS
    ]


def share(site: Site, server: str, images: int) -> Injected:
    backlog = Backlog(site.database(server), site.directory("store"))
    backlog.add_live(20)
    backlog.add_pending(images)
    page = max(50, images // 20)  # which is the default, of all of them
    programs = [sharer(site, backlog, page) for _ in range(PROCESSES)]
    running = [program.start("--format", "json") for program in programs]
    wait_until(lambda: not any(at.running for at in running), what="the end", seconds=300)
    reports = [at.wait().document for at in running]
    journals = [program.journal.deletes() for program in programs]
    pauses = [longest_pauses(at, journals) for at in journals]
    found = [
        *repeated(Counter(delete.image for at in journals for delete in at), backlog.pending),
        *left(look(backlog.database, backlog), kept=backlog.live),
        *miscounted(reports, images),
        *idle(pauses, images),
    ]
    tell(server, journals, pauses)
    return Injected(f"{PROCESSES} processes share a backlog, {server}", PROCESSES, tuple(found))


def sharer(site: Site, backlog: Backlog, page: int) -> Program:
    program = site.program()
    # Slow enough for all of them to be there before all is done.
    program.use(backlog, kind="slowfile", batch=BATCH, seconds=0.02)
    program.configure({"DEFAULT": {"scrub_pool_size": SLOTS}, "scrubber": {"page_size": page}})
    return program


def miscounted(reports: Sequence[dict[str, dict[str, int]]], images: int) -> Iterator[Violation]:
    """Together they say what is true: so many deleted, and nothing else became of any."""
    said: Counter[str] = Counter()
    for report in reports:
        said.update(report["locations"])
    if +said != Counter(deleted=images):
        yield Violation(f"{dict(+said)} of {images}", Kind.MISCOUNTED)


# Idleness ---------------------------------------------------------------------------------


def longest_pauses(mine: Sequence[Delete], all_: Sequence[Sequence[Delete]]) -> list[Pause]:
    """The one in mid-work in which others began the most, and the one at the end."""
    begun = sorted(delete.began for journal in all_ if journal is not mine for delete in journal)
    pauses: list[Pause] = []
    busy_until = mine[0].began if mine else 0.0
    for delete in mine:
        pauses.append(_pause(busy_until, delete.began, begun, last=False))
        busy_until = max(busy_until, delete.ended or delete.began)
    longest = max(pauses, key=lambda pause: pause.meanwhile, default=Pause(0, 0, False))
    return [longest, _pause(busy_until, max(begun, default=busy_until), begun, last=True)]


def _pause(since: float, until: float, begun: Sequence[float], last: bool) -> Pause:
    meanwhile = bisect_right(begun, until) - bisect_left(begun, since)
    return Pause(max(0.0, until - since), max(0, meanwhile), last)


def idle(pauses: Sequence[Sequence[Pause]], images: int) -> Iterator[Violation]:
    for number, several in enumerate(pauses, start=1):
        for pause in several:
            most = HELD + (LONG_AT_END if pause.last else LONG) * images
            if pause.meanwhile > most:
                subject = f"process {number}, while others deleted {pause.meanwhile} of {images}"
                yield Violation(subject, Kind.IDLE)


def tell(
    server: str, journals: Sequence[Sequence[Delete]], pauses: Sequence[Sequence[Pause]]
) -> None:
    shares = ", ".join(f"{len(journal):,}" for journal in journals)
    longest = max(pause.seconds for several in pauses for pause in several)
    print(f"{server}: shares of {shares} images; the longest pause {longest:.1f} s", flush=True)


SCENARIO = Scenario(
    "share",
    "several scrubbers delete each location exactly once, and none is idle while there is work",
    play,
    small_size=0.06,
)
