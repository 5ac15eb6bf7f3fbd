"""A run of all workers: each does its part, and one report says what became of everything."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from scrubber import pool
from scrubber.reporting.merging import Part, failures, merge
from scrubber.reporting.report import Report
from scrubber.workers.messages import Alive, Begin, Cancel, Ended, Message
from scrubber.workers.status import State

if TYPE_CHECKING:
    from scrubber.workers.crew import Crew, Member

LOG = logging.getLogger(__name__)

#: Between two looks whether somebody has become free.
LOOK_SECONDS = 1.0


class CrewRun:
    """From one beginning to one report, like :class:`scrubber.run.Run`.

    One part, the first, reports what nobody claims, so that it is counted once.  Whoever is
    started in the place of a worker that died takes part too, and takes over the first part.

    :param report: brought up to date whenever a worker says something.
    """

    def __init__(self, crew: "Crew", report: Report, stop: pool.Flag, changed: pool.Bell) -> None:
        self.report = report
        self._crew = crew
        self._stop = stop
        self._changed = changed
        self._cancelled = False
        self._going: dict[Member, Part | None] = {}
        self._parts: list[Part] = []
        self._took_part: set[int | None] = set()
        self._first: Member | None = None
        self._first_ended = False
        self._alarms: list[str] = []

    def cancel(self) -> None:
        """End it as soon as what is in flight has ended and is recorded."""
        self._cancelled = True
        for member in self._going:
            member.tell(Cancel())
        self._changed.ring()

    def execute(self) -> Report:
        """To the end of all parts."""
        self._crew.attend(self)
        try:
            while not self._is_over():
                self._invite()
                self._changed.wait(LOOK_SECONDS)
        finally:
            self._crew.attend(None)
        self._conclude()
        return self.report

    @property
    def _ending(self) -> bool:
        return self._cancelled or bool(self._stop)

    def _is_over(self) -> bool:
        if self._going:
            return False
        if self._ending or self._first_ended:
            return True
        # Nobody has the first part: whoever is free takes it, or whoever is about to be.
        states = {member.state for member in self._crew.members}
        return states.isdisjoint({State.IDLE, State.STARTING})

    def _invite(self) -> None:
        if self._ending:
            return
        for member in self._crew.members:
            is_first = self._first is None
            if member.state is State.IDLE and (is_first or member.pid not in self._took_part):
                self._begin(member, is_first)

    def _begin(self, member: "Member", is_first: bool) -> None:
        if is_first:
            self._first = member
        self._took_part.add(member.pid)
        self._going[member] = None
        member.begin(Begin(self.report.run, self.report.trigger, is_first))

    # What the workers say -------------------------------------------------------------

    def heard(self, member: "Member", message: Message | None) -> None:
        """A worker's message; None if it has ended."""
        if member not in self._going:
            return
        match message:
            case Alive(report=document) if document is not None:
                self._going[member] = Part(document)
            case Ended(report, elsewhere):
                del self._going[member]
                self._parts.append(Part(report, frozenset(elsewhere)))
                self._first_ended = self._first_ended or member is self._first
            case None:
                self._lose(member)
            case _:
                return
        self._merge()

    def _lose(self, member: "Member") -> None:
        part = self._going.pop(member)
        if part is not None:
            self._parts.append(replace(part, lost=True))
        if member is self._first:
            self._first = None
        self._alarms.append(
            f"worker {member.number} (process {member.pid}) {member.problem}: what it had claimed "
            "is done by others once its claims lapse, and its last figures may be missing"
        )

    def _merge(self) -> None:
        going = [part for part in self._going.values() if part is not None]
        merge(self.report, [*self._parts, *going])
        self.report.alarms += self._alarms

    def _conclude(self) -> None:
        self._merge()
        self.report.failure = failures(self._parts)
        self.report.cancelled = self._ending or any(part.is_cancelled for part in self._parts)
        if not self._took_part and not self._ending:
            problems = dict.fromkeys(str(member.problem) for member in self._crew.members)
            self.report.failure = f"no worker could be started: {'; '.join(problems)}"
            LOG.error(self.report.failure)
        self.report.finish()
