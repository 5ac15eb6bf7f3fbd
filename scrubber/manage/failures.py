"""``parked`` and ``retry``: what could not be deleted, and trying it again."""

from collections.abc import Iterable, Sequence
from typing import Any

from oslo_config import cfg

from scrubber import errors
from scrubber.manage.invocation import DONE, Invocation, add_command, minutes, print_json
from scrubber.options import PROJECT
from scrubber.planning.retry import Patience
from scrubber.reporting import text
from scrubber.reporting.report import utcnow
from scrubber.state.base import Entry
from scrubber.state.ledger import SqlLedger


def add_to(commands: Any) -> None:
    """Add both commands to those of the program."""
    parked = add_command(
        commands,
        "parked",
        _parked,
        help="list what cannot be deleted",
        description="Lists the locations that failed so often that somebody should look at them "
        "(option retry_attempts); the oldest first.",
    )
    parked.add_argument("--store", metavar="S", help="only this store")
    parked.add_argument("--image", metavar="ID", help="only this image")
    parked.add_argument(
        "--all", action="store_true", help="also what failed less often and waits for its next try"
    )
    retry = add_command(
        commands,
        "retry",
        _retry,
        help="try again in the next run",
        description="Makes what failed due now: the next run tries it.",
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("image", nargs="?", metavar="IMAGE_ID", help="the locations of this image")
    which.add_argument("--store", metavar="S", help="all of this store")
    which.add_argument("--all", action="store_true", help="everything that failed")


def _parked(invocation: Invocation) -> int:
    options = invocation.options
    patience = _patience(invocation.conf)
    with invocation.state() as database:
        entries = (
            entry
            for entry in SqlLedger(database).entries(options.store, options.image)
            if options.all or entry.trouble.is_parked(patience)
        )
        if invocation.as_json:
            print_json({"locations": [entry.as_dict(patience) for entry in entries]})
        elif not _print_entries(entries):
            print("Nothing waits." if options.all else "Nothing is parked.")
    return DONE


def _patience(conf: cfg.ConfigOpts) -> Patience:
    ours = conf[PROJECT]
    return Patience(ours.retry_base, ours.retry_cap, ours.retry_attempts)


def _retry(invocation: Invocation) -> int:
    options = invocation.options
    with invocation.state() as database:
        count = SqlLedger(database).retry(utcnow(), options.image, options.store)
    if options.image and not count:
        raise errors.ScrubberError(f"nothing of image {options.image} has failed")
    if invocation.as_json:
        print_json({"locations": count})
    elif count:
        print(f"{text.counted(count, 'location')} will be tried again in the next run.")
    else:
        print("Nothing waits.")
    return DONE


_COLUMNS = (
    "image",
    "location",
    "store",
    "project",
    "size",
    "tries",
    "first failed (UTC)",
    "next try (UTC)",
    "last error",
)


def _print_entries(entries: Iterable[Entry]) -> bool:
    """As a table; whether there was any."""
    return text.print_rows(_COLUMNS, (_cells(entry) for entry in entries))


def _cells(entry: Entry) -> Sequence[str]:
    trouble = entry.trouble
    return (
        entry.image,
        str(entry.location),
        entry.store,
        entry.owner or "",
        "" if entry.size is None else text.size(entry.size),
        str(trouble.attempts),
        minutes(trouble.first_failed_at),
        minutes(trouble.next_try_at),
        trouble.last_error,
    )
