"""A source other than Glance's database: does it answer, and what does it lead to?"""

from collections.abc import Iterator
from contextlib import closing

from scrubber.checks.finding import Finding, ok
from scrubber.checks.site import Site
from scrubber.options import PROJECT
from scrubber.sources.opening import open_source
from scrubber.stores import registry


def look(site: Site) -> Iterator[Finding]:
    """Open it as a run does; whatever is wrong is raised."""
    with (
        closing(open_source(site.conf, site.impatient, rehearsal=True)),
        closing(registry.build(site.conf)),
    ):
        yield ok("source", f"{site.conf[PROJECT].source} answers and lets this user in")
