"""All checks, in their order."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from oslo_config import cfg

from scrubber import errors, pool
from scrubber.checks import clock, configuration, database, glance, pending, source, state, stores
from scrubber.checks.finding import Finding, Severity, failure
from scrubber.checks.site import Site
from scrubber.options import PROJECT


@dataclass(frozen=True, slots=True)
class Check:
    """One subject.

    :param name: of its findings, unless they say otherwise.
    :param look: what it finds, one after the other.
    :param needs: checks that must have found no failure; else this one is not made.
    :param calls: how many calls, each call_timeout long, one finding may take.
    """

    name: str
    look: Callable[[Site], Iterator[Finding]]
    needs: frozenset[str] = frozenset()
    calls: int = 1


#: The source whose rows can be looked at.
DATABASE = "database"

CHECKS = (
    Check("configuration", configuration.look),
    Check("state database", state.look),
    Check("database", database.look_at_server),
    Check("tables", database.look_at_tables, needs=frozenset({"database"})),
    Check("clock", clock.look, needs=frozenset({"database"})),
    Check("stores", stores.look, calls=4),
    Check("pending", pending.look, needs=frozenset({"database", "tables"})),
    Check("glance", glance.look, calls=4),
)

#: Glance's API has neither tables nor claims, and deletes from the stores itself.
CHECKS_OF_OTHER_SOURCES = (
    Check("configuration", configuration.look),
    Check("state database", state.look),
    Check("source", source.look),
    Check("glance", glance.look, calls=4),
)

_HANGS = "see why it hangs; option call_timeout in section [scrubber] is the patience"


def run_checks(conf: cfg.ConfigOpts) -> Iterator[Finding]:
    """All that is found, each finding as soon as it is known.

    Drivers wait as they do in a run: ``pool.patch()`` must have come before every other import.
    """
    with closing(Site(conf)) as site:
        is_database = conf[PROJECT].source == DATABASE
        for check in CHECKS if is_database else CHECKS_OF_OTHER_SOURCES:
            if not check.needs <= site.usable:
                continue
            worst = Severity.OK
            for finding in carry_out(check, site):
                worst = max(worst, finding.severity)
                yield finding
            if worst < Severity.FAILURE:
                site.usable.add(check.name)


def carry_out(check: Check, site: Site) -> Iterator[Finding]:
    """What one check finds; whatever goes wrong with it is a finding, too."""
    findings = check.look(site)
    while True:
        try:
            finding = pool.within(check.calls * site.timeout, next, findings, None)
        except TimeoutError as late:
            finding = failure(check.name, str(late), _HANGS)
        except errors.ConfigError as wrong:
            finding = failure(check.name, str(wrong), "correct the configuration")
        except errors.ScrubberError as error:
            finding = failure(check.name, str(error), "see docs/troubleshoot.md")
        except Exception as defect:
            message = f"a defect in scrubber: {type(defect).__name__}"
            finding = failure(check.name, message, "please report it")
        if finding is None:
            return
        yield finding
