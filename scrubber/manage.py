"""The program ``scrubber-manage``: what could not be deleted, and trying it again.

Exit status: 0 done, also if there was nothing to do; 1 could not; 2 wrong command line.
"""

import argparse
import datetime
import io
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

from oslo_config import cfg

from scrubber import __version__, arguments, config, errors, pool
from scrubber.planning.retry import Patience
from scrubber.reporting import text
from scrubber.reporting.report import utcnow
from scrubber.state.base import Entry
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger

DONE, COULD_NOT = 0, 1


def main() -> int:
    """The console script.

    :raises SystemExit: for a wrong command line, --help and --version.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a store may have any name
    # What goes wrong is raised here, and said in one line.
    logging.basicConfig(handlers=[logging.NullHandler()])
    files, words = arguments.files_and_flags(sys.argv[1:])
    options = _parser().parse_args(words)
    try:
        status = _manage(config.load(files), options)
        print(end="", flush=True)  # a full disk may show only now
        return status
    except BrokenPipeError:
        message = ""  # whoever read it is gone and needs no explanation
    except (errors.ScrubberError, OSError) as error:
        message = str(error)
    except KeyboardInterrupt:
        message = "interrupted"
    _could_not(message, options.format)
    return COULD_NOT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scrubber-manage",
        description="Lists what scrubber could not delete, and has it tried again.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    parked = commands.add_parser(
        "parked",
        help="list what cannot be deleted",
        description="Lists the locations that failed so often that somebody should look at them "
        "(option retry_attempts); the oldest first.",
        allow_abbrev=False,
    )
    parked.add_argument("--store", metavar="S", help="only this store")
    parked.add_argument("--image", metavar="ID", help="only this image")
    parked.add_argument(
        "--all", action="store_true", help="also what failed less often and waits for its next try"
    )
    parked.set_defaults(command=_parked)

    retry = commands.add_parser(
        "retry",
        help="try again in the next run",
        description="Makes what failed due now: the next run tries it.",
        allow_abbrev=False,
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("image", nargs="?", metavar="IMAGE_ID", help="the locations of this image")
    which.add_argument("--store", metavar="S", help="all of this store")
    which.add_argument("--all", action="store_true", help="everything that failed")
    retry.set_defaults(command=_retry)

    for command in (parked, retry):
        command.add_argument(
            "--format", choices=("text", "json"), default="text", help="how to print (text)"
        )
    for each in (parser, parked, retry):
        # Read by arguments.files_and_flags, wherever they stand.
        for option in ("--config-file", "--config-dir"):
            each.add_argument(
                option, metavar="PATH", default=argparse.SUPPRESS, help="as for scrubber"
            )
    return parser


def _manage(conf: cfg.ConfigOpts, options: argparse.Namespace) -> int:
    connection = conf[config.STATE_SECTION].connection
    if not connection:
        raise errors.StateUnavailable(
            f"option connection in section [{config.STATE_SECTION}] is empty: nothing is remembered"
        )
    impatient = pool.Flag()
    impatient.set()  # somebody waits: a server that is down is said at once
    with closing(StateDatabase(connection, impatient, create=False)) as database:
        status: int = options.command(SqlLedger(database), conf, options)
    return status


def _could_not(message: str, how: str) -> None:
    if message:
        print(f"ERROR: {text.printable(message)}", file=sys.stderr)
    try:
        if how == "json":
            _print_json({"status": "failed", "error": message})
        print(end="", flush=True)
    except OSError:
        sys.stdout = None  # Python would try, and complain, once more at exit


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


# Commands -----------------------------------------------------------------------------------


def _parked(ledger: SqlLedger, conf: cfg.ConfigOpts, options: argparse.Namespace) -> int:
    ours = conf[config.PROJECT]
    patience = Patience(ours.retry_base, ours.retry_cap, ours.retry_attempts)
    entries = (
        entry
        for entry in ledger.entries(options.store, options.image)
        if options.all or entry.trouble.is_parked(patience)
    )
    if options.format == "json":
        documents = [_document(entry, patience) for entry in entries]
        _print_json({"status": "succeeded", "locations": documents})
    elif not _print_entries(entries):
        print("Nothing waits." if options.all else "Nothing is parked.")
    return DONE


def _retry(ledger: SqlLedger, _conf: cfg.ConfigOpts, options: argparse.Namespace) -> int:
    count = ledger.retry(utcnow(), options.image, options.store)
    if options.image and not count:
        raise errors.ScrubberError(f"nothing of image {options.image} has failed")
    if options.format == "json":
        _print_json({"status": "succeeded", "locations": count})
    elif count:
        print(f"{text.counted(count, 'location')} will be tried again in the next run.")
    else:
        print("Nothing waits.")
    return DONE


def _document(entry: Entry, patience: Patience) -> dict[str, Any]:
    trouble = entry.trouble
    return {
        "image": entry.image,
        "location": entry.location,
        "store": entry.store,
        "owner": entry.owner,
        "size": entry.size,
        "attempts": trouble.attempts,
        "parked": trouble.is_parked(patience),
        "first_failed_at": _iso(trouble.first_failed_at),
        "last_error": trouble.last_error,
        "next_try_at": _iso(trouble.next_try_at),
    }


def _iso(moment: datetime.datetime) -> str:
    return moment.replace(microsecond=0).isoformat() + "Z"


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
        f"{trouble.first_failed_at:%Y-%m-%d %H:%M}",
        f"{trouble.next_try_at:%Y-%m-%d %H:%M}",
        trouble.last_error,
    )
