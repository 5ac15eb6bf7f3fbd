"""What the answer of a store means for a location."""

from collections.abc import Callable

from scrubber import errors
from scrubber.live import LiveReferences
from scrubber.model import Answer, Deleted, Outcome, Requested, Trashed
from scrubber.planning import proof
from scrubber.planning.proof import Proof
from scrubber.store_state import StoreState
from scrubber.work import HELD, LOST, NOT_SENT, Job, Piece, Verdict

#: So many missing objects are held for a verdict at the end of a run; more stop the store.
MOST_MISSING = 2000


class Judge:
    """Gives the verdicts of one run.

    :param live: knows live images to prove a store by.
    :param call_timeout: seconds that such a look may take.
    :param thresholds: how many missing objects are believed of a store that nothing proves.
    """

    def __init__(
        self,
        live: LiveReferences,
        call_timeout: Callable[[], float],
        thresholds: Callable[[], proof.Thresholds],
    ) -> None:
        self._live = live
        self._call_timeout = call_timeout
        self._thresholds = thresholds

    def answer(self, store: StoreState, job: Job, piece: Piece, answer: Answer) -> Verdict:
        if isinstance(answer, Deleted):
            store.roots[piece.root].touched += 1
            return Verdict(Outcome.DELETED, bytes_freed=answer.bytes_freed)
        if isinstance(answer, errors.NotSent | errors.Begun):
            return NOT_SENT
        if isinstance(answer, errors.Throttled) and not store.stopped:
            return NOT_SENT  # no failure, and no attempt: its turn comes again
        if isinstance(answer, errors.Changed):
            return LOST
        store.roots[piece.root].touched += 1
        if isinstance(answer, Trashed):
            return Verdict(Outcome.TRASHED)
        if isinstance(answer, Requested):
            return Verdict(Outcome.REQUESTED)
        if isinstance(answer, errors.Gone):
            return self._missing(store, job, piece)
        if isinstance(answer, errors.Refused | errors.Unsupported):
            return Verdict(Outcome.REFUSED, str(answer))
        if isinstance(answer, errors.Unavailable):
            store.stop(str(answer))
        if isinstance(answer, errors.Unavailable | errors.Throttled):
            may_happen = isinstance(answer, errors.Unanswered)
            return Verdict(Outcome.WAITING, str(answer), may_happen=may_happen)
        outcome = Outcome.WAITING if isinstance(answer, errors.InUse) else Outcome.FAILED
        return Verdict(outcome, str(answer), attempted=True)

    def _missing(self, store: StoreState, job: Job, piece: Piece) -> Verdict:
        """Not there: deleted before, or is the store not what we think?"""
        root = store.roots[piece.root]
        if root.proof is Proof.PROVEN:
            store.prove_once_more(
                piece.root,
                lambda: self._live.canaries(store.driver).get(piece.root, []),
                self._call_timeout(),
            )
        if store.stopped:
            return Verdict(Outcome.WAITING, store.stopped)
        if store.believes(piece.root):
            return Verdict(Outcome.GONE)
        if len(root.missing) >= MOST_MISSING:
            store.stop(f"more than {MOST_MISSING} objects are missing, and nothing proves it")
            return Verdict(Outcome.WAITING, store.stopped or "")
        root.missing.append((job, piece))
        return HELD

    def missing(self, store: StoreState, root: str) -> Verdict:
        """At the end of a run: whether a root without proof is believed about what it misses."""
        if store.stopped:
            return Verdict(Outcome.WAITING, store.stopped)
        missing, touched = len(store.roots[root].missing), store.roots[root].touched
        holds_something = store.driver.holds_something(root)
        if proof.believes(missing, touched, self._thresholds(), holds_something):
            return Verdict(Outcome.GONE)
        return Verdict(
            Outcome.WAITING,
            f"missing in store {store.name}, and too few live images prove that it is the right; "
            f"if it is, run once with --accept-missing {store.name}",
        )
