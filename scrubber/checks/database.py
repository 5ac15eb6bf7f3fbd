"""Glance's database: does it answer, is it Glance's, and may scrubber do there what it must?"""

from collections.abc import Iterator

from scrubber import errors
from scrubber.checks.finding import Finding, failure, ok, warning
from scrubber.checks.site import Site
from scrubber.sources import rights

#: MySQL and MariaDB are told so for each connection.
_ISOLATION = "READ COMMITTED"

_CONNECTION = "option connection in section [database]: the one of glance-api.conf?"


def look_at_server(site: Site) -> Iterator[Finding]:
    """The server: which it is, and how claims are made there."""
    try:
        site.engine.connect()
        server = rights.server(site.engine)
    except (errors.SourceError, errors.SourceUnavailable) as error:
        yield failure("database", str(error), _CONNECTION)
        return
    yield judge_server(server)


def judge_server(server: rights.Server) -> Finding:
    """Whether claims can be made there as they are meant."""
    name = f"{server.name} {server.version}"
    if server.is_file:
        return ok("database", f"{name}, one writer at a time")
    if server.isolation != _ISOLATION:
        return warning(
            "database",
            f"{name}, {server.isolation}: several scrubbers get into each other's way",
            f"let {_ISOLATION} be the default of this user's transactions",
        )
    manner = "SKIP LOCKED" if server.skips_locked else "no SKIP LOCKED: scrubbers queue up"
    return ok("database", f"{name}, {_ISOLATION}, {manner}")


def look_at_tables(site: Site) -> Iterator[Finding]:
    """The tables: there, with the columns and the rights that are needed."""
    refused = list(rights.refusals(site.engine))
    for refusal in refused:
        yield failure(
            "tables", f"{refusal.verb} on {refusal.table}: {refusal.reason}", _advice(refusal)
        )
    if not refused:
        yield ok("tables", "all columns are there; SELECT and UPDATE are allowed")


def _advice(refusal: rights.Refusal) -> str:
    if refusal.is_about_rights:
        return (
            f"GRANT SELECT, UPDATE on {refusal.table} to the user of option connection in section "
            "[database], on a server that takes writes"
        )
    return f"run glance-manage db sync, or correct {_CONNECTION}"
