"""The command line of scrubber-manage, and what it says when something goes wrong."""

import argparse
import io
import json
import logging
import sys
from collections.abc import Sequence

from scrubber import __version__, arguments, errors
from scrubber.checks import command as check
from scrubber.manage import activity, failures, images, orders
from scrubber.manage.invocation import COULD_NOT, Invocation
from scrubber.reporting import text

LOG = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Do what the command line says; returns the exit status.

    :raises SystemExit: for a wrong command line, --help and --version.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a store may have any name
    # What goes wrong is raised here, and said in one line.
    logging.basicConfig(handlers=[logging.NullHandler()])
    files, words = arguments.files_and_flags(argv)
    parser = _parser()
    options = parser.parse_args(words)
    if any(not _is_text(word) for word in words):
        parser.error("what is no UTF-8 text is the name of nothing")
    try:
        status: int = options.command(Invocation(files, options))
        print(end="", flush=True)  # a full disk may show only now
        return status
    except BrokenPipeError:
        message = ""  # whoever read it is gone and needs no explanation
    except (errors.ScrubberError, OSError) as error:
        message = str(error)
    except KeyboardInterrupt:
        message = "interrupted"
    except Exception as defect:
        LOG.exception("A defect in scrubber-manage")
        message = f"a defect in scrubber-manage: {type(defect).__name__}: {defect}"
    _could_not(message, options.format)
    return COULD_NOT


def _is_text(word: str) -> bool:
    """Whether it was UTF-8; what was not holds surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scrubber-manage",
        description="Watches and steers scrubbers, lists what is pending and what could not be "
        "deleted.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for room in (activity, orders, failures, images):
        room.add_to(commands)
    check.add_parser(commands).set_defaults(
        command=lambda invocation: check.run(invocation.files, invocation.options)
    )
    for each in (parser, *commands.choices.values()):
        # Read by arguments.files_and_flags, wherever they stand.
        for option in ("--config-file", "--config-dir"):
            each.add_argument(
                option, metavar="PATH", default=argparse.SUPPRESS, help="as for scrubber"
            )
    return parser


def _could_not(message: str, how: str) -> None:
    if message:
        print(f"ERROR: {text.printable(message)}", file=sys.stderr)
    try:
        if how == "json":
            print(json.dumps({"status": "failed", "error": message}, indent=2))
        print(end="", flush=True)
    except OSError:
        sys.stdout = None  # Python would try, and complain, once more at exit
