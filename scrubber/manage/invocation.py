"""What every command of scrubber-manage is given, and how it prints."""

import argparse
import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from oslo_config import cfg

from scrubber import config, errors, pool
from scrubber.options import STATE_SECTION
from scrubber.state.database import StateDatabase

DONE, COULD_NOT = 0, 1


@dataclass(frozen=True)
class Invocation:
    """A command line that was understood.

    :param files: ``--config-file`` and ``--config-dir``, as they were given.
    """

    files: Sequence[str]
    options: argparse.Namespace

    @cached_property
    def conf(self) -> cfg.ConfigOpts:
        """:raises ConfigError: the files cannot be used."""
        return config.load(self.files)

    @property
    def as_json(self) -> bool:
        return bool(self.options.format == "json")

    @contextmanager
    def state(self) -> Iterator[StateDatabase]:
        """The state database, as long as it is needed.

        :raises StateUnavailable: there is none, or it cannot be used.
        """
        connection = self.conf[STATE_SECTION].connection
        if not connection:
            raise errors.StateUnavailable(
                f"option connection in section [{STATE_SECTION}] is empty: nothing is remembered"
            )
        impatient = pool.Flag()
        impatient.set()  # somebody waits: a server that is down is said at once
        database = StateDatabase(connection, impatient, create=False)
        try:
            yield database
        finally:
            database.close()


Command = Callable[[Invocation], int]


def add_command(
    commands: Any, name: str, command: Command, *, help: str, description: str
) -> argparse.ArgumentParser:
    """A parser for the command, with the flags that all of them have.

    :param commands: what ``add_subparsers`` returned.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description, allow_abbrev=False
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="how to print (text)"
    )
    parser.set_defaults(command=command)
    return parser


def print_json(document: dict[str, Any]) -> None:
    """What succeeded, as one document."""
    print(json.dumps({"status": "succeeded", **document}, indent=2))


def minutes(moment: datetime.datetime) -> str:
    """``2026-01-31 12:00``, for tables."""
    return f"{moment:%Y-%m-%d %H:%M}"
