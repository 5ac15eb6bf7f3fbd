"""Bugs to plant: what each promise rests on, taken away, so that the interleavings must find it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from races.scene import Interleaving, Playground, Violated
from scrubber.last_look import LastLook
from scrubber.live import LiveReferences
from scrubber.recorder import Recorder
from scrubber.run import Run
from scrubber.sources.restoring import RestoringSource
from scrubber.work import Job


def skip_the_last_look() -> AbstractContextManager[Any]:
    def none(_self: LastLook, _store: object, batch: Sequence[object]) -> list[None]:
        return [None] * len(batch)

    return mock.patch.object(LastLook, "hindrances", none)


def ask_no_live_rows() -> AbstractContextManager[Any]:
    return mock.patch.object(LiveReferences, "used", return_value=frozenset())


def restore_whatever_is_claimed() -> AbstractContextManager[Any]:
    return mock.patch.object(RestoringSource, "_held", return_value=None)


def look_at_claims_before_the_restore_writes() -> AbstractContextManager[Any]:
    """In a transaction of its own, and not again."""
    held, give_back = RestoringSource._held, RestoringSource.give_back

    def look_then_write(self: RestoringSource, *args: Any, **kwargs: Any) -> Any:
        back, leave = kwargs["back"], kwargs["leave"]

        def look(connection: Any) -> Any:
            now = self._engine.now(connection)
            return held(
                self,
                connection,
                [*back, *leave],
                kwargs["same"],
                now,
                kwargs["lease"],
                kwargs["force"],
            )

        if (found := self._engine.read(look)) is not None:
            return found
        with mock.patch.object(self, "_held", return_value=None):
            return give_back(self, *args, **kwargs)

    return mock.patch.object(RestoringSource, "give_back", look_then_write)


def record_before_the_bytes_are_gone() -> AbstractContextManager[Any]:
    sent = Run._count_sent

    def count_and_finish(self: Run, jobs: Sequence[Job]) -> None:
        sent(self, jobs)
        for job in jobs:
            self._recorder.finish_location(job.claim, job.todo[0].location)
        self._recorder._changed.ring()

    return mock.patch.object(Run, "_count_sent", count_and_finish)


def release_claims_at_once() -> AbstractContextManager[Any]:
    hold = Recorder.hold

    def hold_and_release(self: Recorder, claim: Any) -> None:
        hold(self, claim)
        held = set(claim.locations)
        self._source.release(claim, held)
        claim.locations |= held

    return mock.patch.object(Recorder, "hold", hold_and_release)


PLANTED = {
    function.__name__: function
    for function in (
        skip_the_last_look,
        ask_no_live_rows,
        restore_whatever_is_claimed,
        look_at_claims_before_the_restore_writes,
        record_before_the_bytes_are_gone,
        release_claims_at_once,
    )
}


def find(
    ground: Playground, bug: Callable[[], AbstractContextManager[Any]], most: int
) -> int | None:
    """The first seed that finds it, of so many; None if none does."""
    with bug():
        for seed in range(most):
            try:
                Interleaving(ground, seed).play()
            except Violated:
                return seed
    return None
