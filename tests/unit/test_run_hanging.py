"""A delete that never returns, as on a file system whose server is gone, holds up nobody.

It may go on at any time: until then nobody may take the bytes for safe.
"""

from dataclasses import replace

import pytest

from contract.fake_driver import FakeDriver
from contract.fake_source import AN_HOUR
from scrubber import deleter, pool
from scrubber.planning import circuit
from scrubber.reporting.report import Report, utcnow
from unit.scenes import PATIENCE, Scene, finish, outcomes, reasons, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleter, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.0)


class Stuck:
    """A store of files beside another one; it hangs when it is to delete ``stuck``."""

    def __init__(self, may_hang: bool = True, batch: int = 1, pool_size: int = 2) -> None:
        driver = FakeDriver("fast", batch=batch)
        driver.abilities = replace(driver.abilities, may_hang=may_hang)
        self.scene = Scene(driver, FakeDriver("slow"), pool_size=pool_size, call_timeout=0.05)
        self.go_on = pool.Flag()
        driver.before_each = self._hang

    def _hang(self, name: str) -> None:
        if name == "stuck":
            self.go_on.wait(PATIENCE)

    def is_held(self, image: str) -> bool:
        """Pending, and claimed by somebody of whom nothing is heard."""
        numbers = self.scene.numbers(image)
        return self.scene.glance.images[image].status == "pending_delete" and all(
            self.scene.glance.is_claimed(number) for number in numbers
        )


def test_the_run_ends_and_the_other_stores_are_done() -> None:
    stuck = Stuck()
    scene = stuck.scene
    scene.image("stuck")
    others = [scene.image(f"slow/{number}") for number in range(20)]
    report = scene.run()
    assert all(scene.is_finished(image) for image in others)
    assert outcomes(report) == {"deleted": 20, "waiting": 1}
    assert "no answer within" in reasons(report)
    assert "no answer within" in report.stopped_stores["fast"]
    assert scene.slots.running == 0


def test_what_may_go_yet_stays_claimed_and_all_else_is_given_back() -> None:
    stuck = Stuck(batch=3, pool_size=1)
    scene = stuck.scene
    together = [scene.image(name, id=f"{name!s:0<36}") for name in ("a", "b")]
    together.append(scene.image("stuck", id="c" * 36))
    later = [scene.image(f"{number}", id=f"d{number:035}") for number in range(5)]
    report = scene.run()
    # Of its batch nobody can say which are deleted.
    assert all(stuck.is_held(image) for image in together)
    assert all(scene.is_untouched(image) for image in later)
    assert outcomes(report) == {"waiting": 8}


def test_what_may_go_yet_is_not_renewed_so_that_its_claim_lapses() -> None:
    stuck = Stuck(pool_size=1)
    scene = stuck.scene
    scene.settings = replace(scene.settings, claim_lease=0.3)
    image, _ = scene.image("stuck"), scene.image("slow/a")
    renewed = pool.Flag()
    scene.stores["slow"].before_each = lambda _name: (renewed.wait(PATIENCE), None)[1]
    task = scene.start()
    until(lambda: scene.report.as_dict()["locations"]["waiting"])
    (number,) = scene.numbers(image)
    written = scene.glance.rows[number].location.updated_at
    renewals: list[int] = []
    scene.source.before["renew"] = lambda: renewals.append(1)
    until(lambda: len(renewals) >= 2)  # of what else is under way
    renewed.set()
    finish(task)
    assert scene.glance.rows[number].location.updated_at == written


def test_another_row_of_the_same_object_stays_claimed_too() -> None:
    stuck = Stuck()
    scene = stuck.scene
    images = [scene.image("stuck"), scene.image("stuck")]
    scene.run()
    assert all(stuck.is_held(image) for image in images)


def test_other_locations_of_its_image_go_all_the_same() -> None:
    stuck = Stuck()
    scene = stuck.scene
    image = scene.image("stuck", "slow/a")
    scene.run()
    assert scene.statuses(image) == ["pending_delete", "deleted"]


def test_the_store_is_not_asked_again_while_the_call_hangs_and_works_when_it_has_ended() -> None:
    stuck = Stuck()
    scene = stuck.scene
    scene.image("stuck")
    scene.run()
    driver = scene.fast

    class Hanging:
        ended = False

    driver.hanging = Hanging()  # as a native thread would: a green one was killed
    image = scene.image("a")
    scene.report = Report(utcnow)
    assert "an earlier call to it hangs" in reasons(scene.run())
    assert scene.is_untouched(image)
    Hanging.ended = True
    scene.report = Report(utcnow)
    scene.run()
    assert scene.is_finished(image)


def test_a_later_run_finishes_it_once_its_claim_has_lapsed() -> None:
    stuck = Stuck()
    scene = stuck.scene
    image = scene.image("stuck")
    scene.run()
    stuck.go_on.set()
    scene.glance.clock += AN_HOUR
    scene.report = Report(utcnow)
    scene.run()
    assert scene.is_finished(image)


def test_it_counts_as_no_attempt() -> None:
    stuck = Stuck()
    stuck.scene.image("stuck")
    stuck.scene.run()
    assert [settled.attempts for settled in stuck.scene.audited] == [0]


def test_a_store_that_ends_its_calls_by_itself_is_given_all_the_time_it_takes() -> None:
    stuck = Stuck(may_hang=False)
    scene = stuck.scene
    image = scene.image("stuck")
    task = scene.start()
    until(lambda: scene.fast.running)
    pool.sleep(0.3)
    stuck.go_on.set()
    finish(task)
    assert scene.is_finished(image)


class HungFileSystem(FakeDriver):
    """Must ask its file system what some URLs stand for; an earlier call hangs there."""

    def hang(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Hanging:
            ended = False

        self.hanging = Hanging()
        monkeypatch.setattr(self, "mentions", lambda _urls: pool.Flag().wait(PATIENCE))


def test_stores_of_another_kind_go_on_while_nobody_can_say_what_live_urls_stand_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hung, alike, other = HungFileSystem("hung"), FakeDriver("alike"), FakeDriver("other")
    other.abilities = replace(other.abilities, schemes=frozenset({"other"}))
    monkeypatch.setattr(other, "identify", lambda url: url)
    monkeypatch.setattr(other, "_name", lambda url: url.rpartition("/")[2])
    scene = Scene(hung, alike, other, call_timeout=0.1, proven=False, accept_missing=["other"])
    scene.live_image(store="hung")
    hung.hang(monkeypatch)
    kept = [scene.image("hung/a"), scene.image("alike/b")]
    other.put("c")
    gone = scene.glance.add_image()
    scene.glance.add_location(gone, "other://other/c", store="other")
    report = scene.run()
    assert report.failure is None
    assert scene.is_finished(gone)
    assert report.stages.claimed.images == 1
    assert all(scene.is_untouched(image) for image in kept)
    assert "it may be a live object of store hung" in reasons(report)


def test_a_store_that_hangs_still_says_what_it_knows_by_itself() -> None:
    """Most URLs stand for one object, whatever its file system says."""
    scene = Scene(FakeDriver("hung"), FakeDriver("alike"))
    scene.live_image("live", store="hung")

    class Hanging:
        ended = False

    scene.stores["hung"].hanging = Hanging()
    kept, gone = scene.image("hung/live"), scene.image("alike/b")
    report = scene.run()
    assert scene.is_finished(gone)
    assert scene.is_untouched(kept)
    assert report.failure is None


def test_what_was_only_looked_at_when_its_store_hung_is_claimed_by_nobody() -> None:
    """Nothing of it goes when the call goes on."""
    scene = Scene(FakeDriver("fast", says_gone=False), proven=False, call_timeout=0.05)
    image = scene.image("a")
    scene.fast.before_look = lambda _names: (pool.Flag().wait(PATIENCE), None)[1]
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.is_untouched(image)
    assert outcomes(report) == {"waiting": 1}
    assert "no answer within" in reasons(report)
