"""The state database: what is remembered from run to run."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from scrubber import errors, sql
from scrubber.checks.finding import Finding, failure, ok, warning
from scrubber.checks.site import Site
from scrubber.options import STATE_SECTION
from scrubber.state.database import StateDatabase

_OPTION = f"option connection in section [{STATE_SECTION}]"


def look(site: Site) -> Iterator[Finding]:
    """Open it and, if it is there, see that it can be written."""
    options = site.conf[STATE_SECTION]
    connection, required = options.connection, options.required
    if not connection:
        yield _without(f"{_OPTION} is empty", required, "leave the option out, or give a URL")
        return
    try:
        # Not made here: a check changes nothing.
        _open(site, connection, create=False)
        _open(site, connection, create=True)
    except errors.StateMissing as missing:
        yield _not_there(connection, str(missing), required)
    except errors.StateUnavailable as problem:
        yield _without(str(problem), required, f"mend that, or correct {_OPTION}")
    else:
        yield ok("state database", "it is there, of this version, and can be written")


def _open(site: Site, connection: str, create: bool) -> None:
    with closing(StateDatabase(connection, site.impatient, create=create)):
        pass


def _without(problem: str, required: bool, advice: str) -> Finding:
    if required:
        return failure("state database", f"{problem}, and it is required: nothing runs", advice)
    lost = "scrubber forgets what failed, what is parked and what its runs did"
    return warning("state database", f"{problem}: {lost}", advice)


def _not_there(connection: str, message: str, required: bool) -> Finding:
    url = sql.database_url(connection, STATE_SECTION, "give a URL")
    if url.get_backend_name() != "sqlite" or not url.database:
        return ok("state database", f"{message}: the first run makes its tables")
    directory = Path(url.database).absolute().parent
    # If need be one directory is made with it.
    place = directory if directory.exists() else directory.parent
    if os.access(place, os.W_OK | os.X_OK):
        return ok("state database", f"{message}: the first run makes it")
    advice = f"make {directory} and give it to the user that runs scrubber"
    return _without(f"{message}, and this user may not write in {place}", required, advice)
