"""scrubber-manage check: every check is made whatever becomes of the others, and all is said."""

import argparse
import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contract.fake_driver import FakeDriver
from contract.fake_source import AN_HOUR, NOW, FakeGlance, FakeSource
from scrubber import config, errors, pool
from scrubber.canaries import Canaries
from scrubber.checks import checklist, clock, command, database, pending, state, stores
from scrubber.checks import source as sources
from scrubber.checks.checklist import Check, carry_out, run_checks
from scrubber.checks.finding import Finding, Severity, failure, ok, warning
from scrubber.checks.reading import Hasty, most_common
from scrubber.checks.site import Site
from scrubber.model import Selection
from scrubber.planning.due import Ages
from scrubber.sources.rights import Server
from scrubber.state.database import StateDatabase
from scrubber.stores.registry import Built, Stores

A_DAY = 24 * AN_HOUR

EVIL = "\x1b[31mred\nnext"


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes sites: Glance's rows and stores in memory, options in a file."""
    made: list[Site] = []

    def make(glance: FakeGlance, *drivers: FakeDriver, **sections: dict[str, object]) -> Site:
        file = tmp_path / "scrubber.conf"
        options = {"DEFAULT": {}, "scrubber": {"call_timeout": 1}, **sections}
        file.write_text(
            "".join(
                f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())
                for section, values in options.items()
            )
        )
        site = Site(config.load(["--config-file", str(file)]))
        site.source = FakeSource(glance)
        site.built = [Built(driver.store, driver) for driver in drivers]
        site.usable = {"database", "tables"}
        made.append(site)
        return site

    yield make
    for site in made:
        site.close()


def worst(findings: list[Finding]) -> Severity:
    return max(finding.severity for finding in findings)


def messages(findings: list[Finding], severity: Severity) -> str:
    return "; ".join(at.message for at in findings if at.severity is severity)


# The list ---------------------------------------------------------------------------------


def looks(*findings: Finding, ends_with: Exception | None = None) -> Callable[[Site], Any]:
    def look(_site: Site) -> Iterator[Finding]:
        yield from findings
        if ends_with is not None:
            raise ends_with

    return look


def hangs(_site: Site) -> Iterator[Finding]:
    yield ok("hangs", "so far")
    pool.sleep(3600)


BROKEN = [
    (errors.ConfigError("no such option"), "no such option"),
    (errors.SourceUnavailable("the database is gone"), "the database is gone"),
    (KeyError("secret"), "a defect in scrubber: KeyError"),
]


@pytest.mark.parametrize(("error", "said"), BROKEN)
def test_whatever_a_check_raises_is_a_finding(error: Exception, said: str) -> None:
    site = SimpleNamespace(timeout=10)
    check = Check("it", looks(ok("it", "first"), ends_with=error))
    first, last = carry_out(check, site)  # type: ignore[arg-type]
    assert (first.message, last.message, last.check) == ("first", said, "it")
    assert last.severity is Severity.FAILURE
    assert last.advice


def test_a_check_that_hangs_ends_and_what_it_found_is_kept() -> None:
    site = SimpleNamespace(timeout=0.05)
    first, last = carry_out(Check("hangs", hangs), site)  # type: ignore[arg-type]
    assert first.message == "so far"
    assert (last.severity, last.message) == (Severity.FAILURE, "no answer within 0.05 s")


def test_a_check_is_made_only_after_those_that_it_needs(
    new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = (
        Check("a", looks(failure("a", "no", "do"))),
        Check("b", looks(warning("b", "hm", "do"))),
        Check("c", looks(ok("c", "yes")), needs=frozenset({"a", "b"})),
        Check("d", looks(ok("d", "yes")), needs=frozenset({"b"})),
        Check("e", looks(ok("e", "yes")), needs=frozenset({"c"})),
    )
    monkeypatch.setattr(checklist, "CHECKS", checks)
    found = [finding.check for finding in run_checks(new_site(FakeGlance()).conf)]
    assert found == ["a", "b", "d"]


def test_each_check_needs_only_what_comes_before_it() -> None:
    before: set[str] = set()
    for check in checklist.CHECKS:
        assert check.needs <= before, check
        before.add(check.name)


@pytest.mark.parametrize(
    ("source", "said"), [("nonsense", "known are database, glance_api"), ("glance_api", "[glance]")]
)
def test_another_source_is_looked_at_without_a_database(
    source: str, said: str, new_site: Callable[..., Site]
) -> None:
    site = new_site(FakeGlance(), scrubber={"source": source}, state={"connection": ""})
    found = list(run_checks(site.conf))
    assert [at.check for at in found] == ["configuration", "state database", "source"]
    assert said in messages(found, Severity.FAILURE)


def test_another_source_that_answers(
    new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_args: object, **_options: object) -> Any:
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(sources, "open_source", opened)
    monkeypatch.setattr("scrubber.stores.registry.build", opened)
    site = new_site(FakeGlance(), scrubber={"source": "glance_api"})
    assert worst(list(sources.look(site))) is Severity.OK


# The command ------------------------------------------------------------------------------

FINDINGS = (
    ok("a", "fine"),
    warning("b", EVIL, "look"),
    failure("c", "broken", EVIL),
)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("how", ["text", "json"])
def test_the_worst_finding_is_the_exit_status(
    number: int,
    how: str,
    new_site: Callable[..., Site],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = FINDINGS[:number]
    monkeypatch.setattr(checklist, "CHECKS", (Check("it", looks(*found)),))
    file = new_site(FakeGlance()).conf.config_file[0]
    status = command.run(["--config-file", file], argparse.Namespace(format=how))
    assert status == number - 1
    said = capsys.readouterr()
    assert said.err == ""
    assert not [at for at in said.out if not at.isprintable() and at != "\n"]
    if how == "text":
        lines = said.out.splitlines()
        assert lines[0] == "ok       a: fine"
        assert len(lines) == 2 * number, "a line each, and one for advice"
        assert lines[-1] == ["0 failures, 0 warnings.", "0 failures, 1 warning."][number > 1] or (
            lines[-1] == "1 failure, 1 warning."
        )
    else:
        document = json.loads(said.out)
        assert document["status"] == ("ok", "warning", "failure")[number - 1]
        assert [at["check"] for at in document["findings"]] == ["a", "b", "c"][:number]
        assert document["findings"][-1] == {
            "check": found[-1].check,
            "severity": found[-1].severity.word,
            "message": found[-1].message,
            "advice": found[-1].advice,
        }


@pytest.mark.parametrize("how", ["text", "json"])
def test_a_configuration_that_cannot_be_read_is_a_failure(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scrubber.conf"
    file.write_text("[scrubber]\npage_size = many\n")
    status = command.run(["--config-file", str(file)], argparse.Namespace(format=how))
    assert status == Severity.FAILURE
    assert "page_size" in capsys.readouterr().out


# The clock --------------------------------------------------------------------------------

SKEWS = [
    # seconds that the database is ahead, seconds that the question took, claim_lease; verdict
    (0.0, 0.0, 300, Severity.OK),
    (5.0, 0.0, 300, Severity.OK),
    (5.1, 0.0, 300, Severity.WARNING),
    (-5.1, 0.0, 300, Severity.WARNING),
    (8.0, 10.0, 300, Severity.OK),  # it may all be the question's
    (75.0, 0.0, 300, Severity.WARNING),
    (76.0, 0.0, 300, Severity.FAILURE),
    (-76.0, 0.0, 300, Severity.FAILURE),
    (6.0, 0.0, 10, Severity.FAILURE),
]


@pytest.mark.parametrize(("ahead", "took", "lease", "verdict"), SKEWS)
def test_a_clock_that_is_far_off(
    ahead: float, took: float, lease: float, verdict: Severity
) -> None:
    after = NOW + datetime.timedelta(seconds=took)
    theirs = NOW + datetime.timedelta(seconds=ahead + took / 2)
    finding = clock.judge(clock.Skew.between(NOW, theirs, after), lease)
    assert finding.severity is verdict
    if verdict is not Severity.OK:
        assert ("ahead of" if ahead > 0 else "behind") in finding.message


# The database's server --------------------------------------------------------------------

SERVERS = [
    # name, isolation, whether it skips locked rows; severity, a word of what is said
    ("SQLite", "SERIALIZABLE", False, Severity.OK, "one writer"),
    ("MariaDB", "READ COMMITTED", True, Severity.OK, ", SKIP LOCKED"),
    ("MySQL", "READ COMMITTED", False, Severity.OK, "no SKIP LOCKED"),
    ("PostgreSQL", "REPEATABLE READ", True, Severity.WARNING, "REPEATABLE READ"),
]


@pytest.mark.parametrize(("name", "isolation", "skips", "severity", "word"), SERVERS)
def test_a_server_that_suits_claims(
    name: str, isolation: str, skips: bool, severity: Severity, word: str
) -> None:
    finding = database.judge_server(Server(name, "9.1", isolation, skips))
    assert finding.severity is severity
    assert f"{name} 9.1" in finding.message
    assert word in finding.message


class Refusing:
    """An engine that refuses what it is asked."""

    dialect = "mysql"

    def __init__(self, read: Exception | None = None, write: Exception | None = None) -> None:
        self._read = read
        self._write = write

    def read(self, _work: object) -> None:
        if self._read is not None:
            raise self._read

    def write(self, _work: object) -> None:
        if self._write is not None:
            raise self._write


REFUSALS = [
    # what the engine raises; severity, verb and advice
    ({"read": errors.SourceError("it refuses: SELECT command denied")}, "SELECT", "GRANT"),
    ({"read": errors.SourceError("it refuses: no such column")}, "SELECT", "db sync"),
    ({"write": errors.SourceError("it refuses: permission denied")}, "UPDATE", "GRANT"),
    ({"write": errors.SourceUnavailable("no answer: --read-only")}, "UPDATE", "GRANT"),
]


@pytest.mark.parametrize(("raises", "verb", "advice"), REFUSALS)
def test_what_may_not_be_done_with_a_table(
    raises: dict[str, Exception], verb: str, advice: str, new_site: Callable[..., Site]
) -> None:
    site = new_site(FakeGlance())
    site.engine = Refusing(**raises)  # type: ignore[assignment]
    found = list(database.look_at_tables(site))
    del site.engine
    assert len(found) == 5
    for finding in found:
        assert finding.severity is Severity.FAILURE
        assert finding.message.startswith(f"{verb} on image")
        assert advice in finding.advice


def test_a_server_that_goes_away_is_no_matter_of_rights(new_site: Callable[..., Site]) -> None:
    site = new_site(FakeGlance())
    gone = errors.SourceUnavailable("no answer: connection refused")
    site.engine = Refusing(write=gone)  # type: ignore[assignment]
    with pytest.raises(errors.SourceUnavailable):
        list(database.look_at_tables(site))
    del site.engine


# Rows -------------------------------------------------------------------------------------


def test_reading_ends_when_its_time_is_over() -> None:
    seconds = iter(range(100))
    pages = Hasty(iter("abcdefgh"), 3, clock=lambda: next(seconds))
    assert (list(pages), pages.cut) == (["a", "b", "c"], True)
    assert "3 s" in pages.note
    pages = Hasty(iter("ab"), 3, clock=lambda: 0)
    assert (list(pages), pages.cut, pages.note) == (["a", "b"], False, "")


def test_made_up_reasons_do_not_fill_the_screen() -> None:
    told = most_common(Counter({f"store {at}": 100 - at for at in range(50)}))
    assert len(told) == 11
    assert told[0] == ("store 0", 100)
    assert sum(number for _, number in told) == sum(range(51, 101))


def what_is_pending(glance: FakeGlance, *drivers: FakeDriver, **ages: float) -> pending.PendingRows:
    seen = pending.PendingRows(
        Stores(drivers or [FakeDriver("fast")], {"tape": "no driver"}),
        NOW,
        Ages(**{"scrub_time": 0, "removed_location_age": 3600, **ages}),
        lease=datetime.timedelta(seconds=300),
    )
    for page in FakeSource(glance).candidates(Selection(), 10):
        for candidate in page:
            seen.see(candidate)
    return seen


def test_what_is_pending_is_counted() -> None:
    glance = FakeGlance()
    for at in range(3):
        image = glance.add_image(deleted_at=NOW - at * A_DAY)
        glance.add_location(image, deleted_at=NOW - at * A_DAY)
    seen = what_is_pending(glance, scrub_time=A_DAY.total_seconds())
    assert (seen.images, seen.locations, seen.due, seen.deleted) == (3, 3, 2, 3)
    assert seen.oldest == NOW - 2 * A_DAY
    (finding,) = pending.judge(seen, "")
    assert "3 images with 3 locations, 2 due now" in finding.message


CLAIMS = [
    # seconds since the row was touched; whether that is a claim
    (0, True),
    (299, True),
    (300, False),  # lapsed
    (7200, False),  # older than the deletion: as Glance left it
    (-299, True),
    (-301, False),  # of a clock that jumped
]


def test_an_image_that_was_deleted_just_now_is_nobodys() -> None:
    glance = FakeGlance()
    glance.add_location(glance.add_image(deleted_at=NOW), deleted_at=NOW, updated_at=NOW)
    assert what_is_pending(glance).claimed == 0


@pytest.mark.parametrize(("ago", "claimed"), CLAIMS)
def test_claims_are_those_that_another_scrubber_respects(ago: float, claimed: bool) -> None:
    glance = FakeGlance()
    image = glance.add_image()
    moment = NOW - datetime.timedelta(seconds=ago)
    glance.add_location(image, updated_at=moment)
    glance.add_location(image, updated_at=NOW - AN_HOUR)
    seen = what_is_pending(glance)
    assert seen.claimed == claimed
    assert [at.check for at in pending.judge(seen, "")].count("claims") == claimed


def test_what_no_run_deletes_is_named_by_its_reason() -> None:
    glance = FakeGlance()
    image = glance.add_image()
    for store in ("old", "old", "tape"):
        glance.add_location(image, "rbd://a/b/c/d", store=store)
    glance.add_location(image, problem="it cannot be decrypted")
    glance.add_location(image, "http://elsewhere/image", store="web")
    glance.add_location(image)
    wreck = glance.add_image(deleted=False, status="active", deleted_at=None)
    glance.add_location(wreck, "rbd://a/b/c/d", store="lost")
    importing = glance.add_image(deleted=False, status="active", deleted_at=None)
    glance.add_location(importing)
    glance.add_location(importing, status="active")
    glance.importing.add(importing)
    found = list(pending.judge(what_is_pending(glance), " (or more)"))
    said = messages(found, Severity.WARNING)
    assert "2 pending locations (or more): store old is not configured" in said
    assert "1 pending location (or more): store tape: no driver" in said
    assert "1 location (or more) cannot be scrubbed as they are: it cannot be decrypted" in said
    assert "cannot be scrubbed as they are: a wreck" in said
    assert len(found) == 5, "neither the web, nor what waits for an import, is one"


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize("evident", [False, True])
def test_delayed_delete_is_on_if_somebody_says_so(configured: bool, evident: bool) -> None:
    glance = FakeGlance()
    # Copies are removed, and deletes crash, with it and without.
    glance.add_location(glance.add_image(deleted=False, status="active", deleted_at=None))
    if evident:
        glance.add_location(glance.add_image())
    finding = pending.judge_delayed_delete(what_is_pending(glance), configured)
    assert (finding.severity is Severity.WARNING) == (not configured and not evident)


PURGES = [
    # days since the oldest row was deleted, days of scrub_time; whether a purge may come first
    (None, 0, False),
    (0, 0, False),
    (23, 0, False),
    (23.1, 0, True),
    (400, 0, True),
    (None, 23, False),
    (None, 23.1, True),
    (1, 40, True),
]


@pytest.mark.parametrize(("age", "scrub_time", "warned"), PURGES)
def test_a_purge_that_would_come_first(age: float | None, scrub_time: float, warned: bool) -> None:
    glance = FakeGlance()
    if age is not None:
        glance.add_location(glance.add_image(), deleted_at=NOW - age * A_DAY)
    glance.add_location(glance.add_image())
    seen = what_is_pending(glance, scrub_time=scrub_time * A_DAY.total_seconds())
    finding = pending.judge_purge(seen)
    assert (finding.severity is Severity.WARNING) == warned
    assert ("--age_in_days" in finding.advice) == warned


def live_rows(glance: FakeGlance, *drivers: FakeDriver) -> stores.LiveRows:
    of = Stores(drivers, {})
    source = FakeSource(glance)
    seen = stores.LiveRows(of, Canaries(of, source.images))
    for page in source.references(10):
        for reference in page:
            seen.see(reference.location)
    return seen


def a_live_location(glance: FakeGlance, url: str = "", **columns: Any) -> int:
    image = glance.add_image(deleted=False, status="active", deleted_at=None)
    url = url or "fake://fast/object"
    return glance.add_location(image, url, status="active", deleted_at=None, **columns)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_live_row_that_cannot_be_read_stops_all_unless_that_is_accepted(ignored: bool) -> None:
    glance = FakeGlance()
    a_live_location(glance)
    number = a_live_location(glance, problem="it cannot be decrypted")
    (finding,) = stores.judge_live(live_rows(glance, FakeDriver("fast")), "", ignored)
    assert finding.severity is (Severity.WARNING if ignored else Severity.FAILURE)
    assert f"location {number} " in finding.message


def test_live_rows_without_a_store_are_counted() -> None:
    glance = FakeGlance()
    a_live_location(glance)
    a_live_location(glance, "http://elsewhere/image", store="web")
    found = list(stores.judge_live(live_rows(glance, FakeDriver("fast")), "", False))
    assert (worst(found), found[0].message[:16]) == (Severity.OK, "2 live locations")
    a_live_location(glance, "rbd://a/b/c/d", store="old")
    (finding,) = stores.judge_live(live_rows(glance, FakeDriver("fast")), "", False)
    assert finding.severity is Severity.WARNING
    assert "store old" in finding.message


# Stores -----------------------------------------------------------------------------------


def of_store(findings: list[Finding], name: str) -> Finding:
    (finding,) = (at for at in findings if at.check == f"store {name}")
    return finding


def test_each_store_is_looked_at_by_its_own_live_images(new_site: Callable[..., Site]) -> None:
    glance = FakeGlance()
    drivers = [FakeDriver(name) for name in ("fast", "empty", "unmounted", "other", "half")]
    fast, _empty, unmounted, other, half = drivers
    for driver in (fast, unmounted, other, half):
        for at in range(4):
            a_live_location(glance, driver.put(f"{at}"), store=driver.store)
    unmounted.mounted = None
    other.objects.clear()
    del half.objects["0"]
    found = list(stores.look(new_site(glance, *drivers)))
    assert of_store(found, "fast").severity is Severity.OK
    assert "4 live images looked up" in of_store(found, "fast").message
    assert of_store(found, "empty").severity is Severity.OK
    assert "no live image proves" in of_store(found, "empty").message
    assert of_store(found, "unmounted").severity is Severity.FAILURE
    assert "nothing is mounted" in of_store(found, "unmounted").message
    assert of_store(found, "other").severity is Severity.FAILURE
    assert "of 4 live images looked up 4 are missing" in of_store(found, "other").message
    assert of_store(found, "half").severity is Severity.WARNING
    assert not any(driver.sent for driver in drivers), "nothing is deleted"


class Hanging(FakeDriver):
    """Says nothing when it is asked for what its name says."""

    def __init__(self, store: str) -> None:
        super().__init__(store)

    def _hang(self) -> None:
        pool.sleep(3600)

    def probe(self) -> None:
        if self.store == "probe":
            self._hang()
        super().probe()

    def resolve(self) -> None:
        if self.store == "resolve":
            self._hang()

    def close(self) -> None:
        if self.store == "close":
            self._hang()

    def look(self, targets: Any) -> Any:
        if self.store == "look":
            self._hang()
        return super().look(targets)


def test_a_store_that_hangs_holds_up_no_other(new_site: Callable[..., Site]) -> None:
    glance = FakeGlance()
    hanging = [Hanging(name) for name in ("probe", "resolve", "look")]
    fast = FakeDriver("fast")
    for driver in (*hanging, fast):
        a_live_location(glance, driver.put("it"), store=driver.store)
    site = new_site(glance, *hanging, fast)
    found = pool.within(20, list, stores.look(site))
    for driver in hanging:
        assert of_store(found, driver.store).severity is Severity.FAILURE
    assert of_store(found, "fast").severity is Severity.OK


def test_who_does_not_give_back_its_connections_does_not_hold_up_the_end(
    new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrubber.checks.site._CLOSE_SECONDS", 0.05)
    site = new_site(FakeGlance(), Hanging("close"))
    assert site.stores.drivers
    pool.within(10, site.close)
    site.stores.drivers.clear()


@pytest.mark.parametrize(("call_timeout", "seconds"), [(1, 0.5), (60, 10)])
def test_rows_are_read_well_within_the_patience_for_a_check(
    call_timeout: int, seconds: float, new_site: Callable[..., Site]
) -> None:
    site = new_site(FakeGlance(), scrubber={"call_timeout": call_timeout})
    assert site.patience_for_rows == seconds


@pytest.mark.parametrize(("roots", "severity"), [(1, Severity.OK), (10, Severity.FAILURE)])
def test_a_store_with_many_slow_roots_is_not_waited_for_without_end(
    roots: int, severity: Severity
) -> None:
    glance, driver = FakeGlance(), FakeDriver("fast")
    driver.before_look = lambda _names: pool.sleep(0.1)
    for at in range(roots):
        a_live_location(glance, driver.put(f"root-{at}/image"))
    (finding,) = stores.proofs([driver], live_rows(glance, driver).canaries, 0.4, {})
    assert finding.severity is severity
    assert ("does not come to an end" in finding.message) == (severity is Severity.FAILURE)


def test_stores_are_looked_at_without_a_database(new_site: Callable[..., Site]) -> None:
    site = new_site(FakeGlance(), FakeDriver("fast"))
    site.usable = {"database"}
    site.source = None  # type: ignore[assignment]
    assert of_store(list(stores.look(site)), "fast").severity is Severity.OK


def test_rows_that_cannot_be_read_leave_the_stores_to_be_looked_at(
    new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_self: FakeSource, _size: int) -> Any:
        raise errors.SourceUnavailable("the database is gone")
        yield

    monkeypatch.setattr(FakeSource, "references", fails)
    found = list(stores.look(new_site(FakeGlance(), FakeDriver("fast"))))
    assert "the database is gone" in messages(found, Severity.FAILURE)
    assert of_store(found, "fast").severity is Severity.OK


def test_a_store_without_a_driver_is_a_failure_if_it_is_needed(
    new_site: Callable[..., Site],
) -> None:
    site = new_site(FakeGlance())
    site.built = [
        Built("tape", None, "no driver for type tape"),
        Built("objects", None, "option s3_store_host is not set", needed=True),
    ]
    found = list(stores.look(site))
    assert "tape" in messages(found, Severity.WARNING)
    assert "s3_store_host" in messages(found, Severity.FAILURE)
    site.built = []
    del site.stores
    assert "no store is configured" in messages(list(stores.look(site)), Severity.FAILURE)


def test_what_the_files_leave_out_is_said(new_site: Callable[..., Site]) -> None:
    driver = FakeDriver("fast")
    sections: dict[str, dict[str, object]] = {
        "DEFAULT": {"enabled_backends": "fast:file"},
        "glance_store": {"default_backend": "slow"},
    }
    found = list(stores.look(new_site(FakeGlance(), driver, **sections)))
    assert "no section [fast]" in messages(found, Severity.WARNING)
    assert "names slow" in messages(found, Severity.WARNING)
    sections["glance_store"]["default_backend"] = "fast"
    for section in ("fast", "Fast", "backend_defaults"):
        said = {**sections, section: {"scrub_max_rate": 1}}
        found = list(stores.look(new_site(FakeGlance(), driver, **said)))
        assert worst(found) is Severity.OK, section


# The state database -----------------------------------------------------------------------


def look_at_state(new_site: Callable[..., Site], **options: object) -> Finding:
    (finding,) = state.look(new_site(FakeGlance(), state=options))
    return finding


def test_a_state_database_that_works(new_site: Callable[..., Site], tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    connection = f"sqlite:///{path}"
    missing = look_at_state(new_site, connection=connection)
    assert (missing.severity, path.exists()) == (Severity.OK, False)
    assert "the first run makes it" in missing.message
    StateDatabase(connection, pool.Flag()).close()
    there = look_at_state(new_site, connection=connection)
    assert there.severity is Severity.OK
    assert "can be written" in there.message
    # Its directory may be made with it.
    nested = look_at_state(new_site, connection=f"sqlite:///{tmp_path}/new/state.sqlite")
    assert (nested.severity, (tmp_path / "new").exists()) == (Severity.OK, False)


def test_a_state_database_that_can_only_be_read(
    new_site: Callable[..., Site], tmp_path: Path
) -> None:
    connection = f"sqlite:///{tmp_path}/state.sqlite"
    with closing(StateDatabase(connection, pool.Flag())) as written:
        written.write(
            lambda it: it.exec_driver_sql(
                "CREATE TRIGGER guard BEFORE UPDATE ON scrubber_version "
                "BEGIN SELECT RAISE(ABORT, 'no writes here'); END"
            )
        )
    finding = look_at_state(new_site, connection=connection)
    assert finding.severity is Severity.WARNING
    assert "no writes here" in finding.message


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("how", ["empty", "no directory", "corrupt"])
def test_a_state_database_that_does_not(
    how: str, required: bool, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite"
    connection = {
        "empty": "",
        "no directory": f"sqlite:///{tmp_path}/not/there/state.sqlite",
        "corrupt": f"sqlite:///{path}",
    }[how]
    path.write_text("no database\n" * 100)
    finding = look_at_state(new_site, connection=connection, required=required)
    assert finding.severity is (Severity.FAILURE if required else Severity.WARNING)
    assert finding.advice
    assert ("nothing runs" if required else "forgets") in finding.message


def test_findings_come_as_they_are_made(new_site: Callable[..., Site]) -> None:
    """An operator sees at once what is wrong, also while a store keeps all waiting."""
    site = new_site(FakeGlance(), Hanging("probe"))
    site.built.append(Built("tape", None, "no driver"))
    assert "tape" in next(stores.look(site)).message
