"""``pending`` and ``restore``: images that wait for their end, and giving one back."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from scrubber import pool
from scrubber.manage.invocation import DONE, Invocation, add_command, minutes, print_json
from scrubber.model import Candidate
from scrubber.options import PROJECT
from scrubber.planning.due import Ages, due_at
from scrubber.reporting import text
from scrubber.sources.engine import Engine
from scrubber.sources.listing import PendingImage, pending_images
from scrubber.state.base import iso


def add_to(commands: Any) -> None:
    """Add both commands to those of the program."""
    pending = add_command(
        commands,
        "pending",
        _pending,
        help="list the images that are pending_delete",
        description="Lists the images that are pending_delete, which Glance's API shows to nobody, "
        "and when each is due: until its bytes are deleted it can be restored.",
    )
    pending.add_argument("--owner", metavar="P", help="only those of this project")
    pending.add_argument("--name", metavar="N", help="only those of this name")
    restore = add_command(
        commands,
        "restore",
        _restore,
        help="give back an image",
        description="Gives back an image that is pending_delete, as scrubber --restore does.",
    )
    restore.add_argument("image", metavar="IMAGE_ID")
    restore.add_argument(
        "--wait", metavar="SECONDS", default="0", help="how long to wait for a scrubber at work"
    )
    restore.add_argument(
        "--force",
        action="store_true",
        help="also when a scrubber took the image and was not heard of since; be sure that it is "
        "dead",
    )


def _restore(invocation: Invocation) -> int:
    # As scrubber itself does it: the same checks, the same words, the same exit status.
    from scrubber import cli

    options = invocation.options
    flags = ["--restore", options.image, "--wait", options.wait, "--format", options.format]
    return cli.main([*invocation.files, *flags, *(["--force"] if options.force else [])])


def _pending(invocation: Invocation) -> int:
    conf, options = invocation.conf, invocation.options
    ages = Ages(conf.scrub_time, conf[PROJECT].removed_location_age)
    impatient = pool.Flag()
    impatient.set()  # somebody waits: a server that is down is said at once
    with closing(Engine(conf.database, impatient)) as engine:
        engine.connect()
        found = pending_images(engine, options.owner, options.name)
        if invocation.as_json:
            print_json({"images": [_document(at, ages) for at in found]})
        elif not text.print_rows(_COLUMNS, (_cells(at, ages) for at in found)):
            print("Nothing is pending.")
    return DONE


def _document(pending: PendingImage, ages: Ages) -> dict[str, Any]:
    image = pending.image
    return {
        "image": image.id,
        "name": pending.name,
        "size": image.size,
        "owner": image.owner,
        "kind": pending.kind.value,
        "deleted_at": iso(image.went_at),
        "due_at": iso(due_at(_candidate(pending), ages)),
    }


_COLUMNS = ("image", "name", "size", "project", "deleted (UTC)", "due (UTC)")


def _cells(pending: PendingImage, ages: Ages) -> Sequence[str]:
    image = pending.image
    return (
        image.id,
        pending.name or "",
        "" if image.size is None else text.size(image.size),
        image.owner or "",
        minutes(image.went_at),
        minutes(due_at(_candidate(pending), ages)),
    )


def _candidate(pending: PendingImage) -> Candidate:
    return Candidate(pending.image, pending.kind, ())
