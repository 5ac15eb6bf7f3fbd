"""What a run makes of stores that fail, or that are not the ones we think.

Every test has a hard limit in time: what hangs has failed.
"""

import pytest

from contract.fake_driver import FakeDriver
from scrubber import errors, pool, verdicts
from scrubber.model import Deleted, Outcome, Trashed
from scrubber.planning.proof import Thresholds
from scrubber.store_state import LOOKED_AT
from unit.scenes import PATIENCE, Scene, finish, outcomes, reasons, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)


# Stores that fail -------------------------------------------------------------------------

ANSWERS = [
    # what the store says of one location; what that is in the report
    (errors.Failed("disk error"), Outcome.FAILED, "disk error"),
    (errors.Refused("a symbolic link"), Outcome.REFUSED, "a symbolic link"),
    (errors.Unsupported("a snapshot"), Outcome.REFUSED, "a snapshot"),
    (errors.InUse("has clones"), Outcome.WAITING, "has clones"),
    (errors.StoreError("something else"), Outcome.FAILED, "something else"),
]


@pytest.mark.parametrize(("answer", "outcome", "reason"), ANSWERS)
def test_a_location_that_cannot_be_deleted_stays_pending_alone(
    answer: errors.StoreError, outcome: Outcome, reason: str
) -> None:
    scene = Scene()
    bad, good = scene.image("bad", "other copy"), scene.image("good")
    scene.fast.answers["bad"] = answer
    report = scene.run()
    assert scene.is_finished(good)
    assert scene.statuses(bad) == ["pending_delete", "deleted"]
    assert not any(scene.glance.is_claimed(number) for number in scene.numbers(bad)[:1])
    assert scene.glance.images[bad].status == "pending_delete"
    assert outcomes(report) == {"deleted": 2, outcome.value: 1}
    assert reasons(report) == reason
    assert report.status == "partial"
    assert report.total.images_scrubbed == 1


@pytest.mark.parametrize("how", ["raised", "answered"])
def test_a_store_that_becomes_unavailable_stops_only_itself(how: str) -> None:
    fast, slow = FakeDriver("fast", batch=2), FakeDriver("slow")
    scene = Scene(fast, slow, pool_size=1)
    broken = [scene.image(f"{number}") for number in range(10)]
    others = [scene.image(f"slow/{number}") for number in range(10)]
    both = scene.image("x", "slow/x")

    def fail(names: list[str]) -> None:
        if how == "raised":
            raise errors.Unavailable("connection refused")
        fast.answers.update(dict.fromkeys(names, errors.Unavailable("connection refused")))

    fast.before_delete = fail
    report = scene.run()
    assert len(fast.sent) == 1, "it was asked again"
    assert all(scene.is_untouched(image) for image in broken)
    assert all(scene.is_finished(image) for image in others)
    assert scene.statuses(both) == ["pending_delete", "deleted"]
    assert outcomes(report, "fast") == {"waiting": 11}
    assert report.stopped_stores == {"fast": "connection refused"}
    assert report.status == "partial"


def test_a_batch_that_ends_as_unavailable_records_nothing_of_itself() -> None:
    """Some may be deleted already; they are found gone next time."""
    scene = Scene()
    images = [scene.image(f"{number}") for number in range(4)]

    def fail(names: list[str]) -> None:
        scene.fast.objects.pop(names[0])
        raise errors.Unavailable("connection lost")

    scene.fast.before_delete = fail
    scene.run()
    assert all(scene.is_untouched(image) for image in images)


def test_a_missing_root_stops_the_store_before_anything_is_sent() -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    image, other = scene.image("a"), scene.image("slow/b")
    scene.fast.mounted = None
    report = scene.run()
    assert scene.is_untouched(image)
    assert scene.is_finished(other)
    assert scene.fast.sent == []
    assert "nothing is mounted" in reasons(report)


def test_a_probe_that_gets_no_answer_stops_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), call_timeout=0.05)
    image, other = scene.image("a"), scene.image("slow/b")
    monkeypatch.setattr(scene.fast, "probe", lambda: pool.Flag().wait(PATIENCE))
    report = scene.run()
    assert scene.is_untouched(image)
    assert scene.is_finished(other)
    assert "no answer within" in reasons(report)


@pytest.mark.parametrize("bug", [ValueError("x"), KeyError("x"), OSError("x"), TypeError()])
def test_a_bug_in_a_driver_fails_its_batch_and_the_run_goes_on(bug: Exception) -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    bad, good = scene.image("bad"), scene.image("good")
    scene.fast.answers["bad"] = bug
    report = scene.run()
    assert scene.is_untouched(bad)
    assert scene.is_finished(good)
    assert outcomes(report) == {"deleted": 1, "failed": 1}
    assert type(bug).__name__ in reasons(report)


@pytest.mark.parametrize("answers", [[], [Deleted(1)], [Deleted(1)] * 5], ids=["0", "1", "5"])
def test_a_driver_that_answers_too_little_or_too_much_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, answers: list[Deleted]
) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    images, other = [scene.image(f"{n}") for n in range(3)], scene.image("slow/a")
    monkeypatch.setattr(scene.fast, "delete", lambda _targets, _proceed: answers)
    report = scene.run()
    assert all(scene.is_untouched(image) for image in images)
    assert scene.is_finished(other)
    assert outcomes(report, "fast") == {"failed": 3}


@pytest.mark.parametrize("method", ["probe", "look"])
def test_a_bug_in_a_look_at_a_store_stops_only_that_store(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    image, other = scene.image("a"), scene.image("slow/b")

    def bug(*_arguments: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(scene.fast, method, bug)
    report = scene.run()
    assert scene.is_untouched(image)
    assert scene.is_finished(other)
    assert "ValueError" in report.stopped_stores["fast"]


# Is it the store we think? ----------------------------------------------------------------


def test_a_store_without_its_live_objects_is_stopped_and_nothing_is_marked() -> None:
    """As an unmounted directory: it is there, and all in it is missing."""
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    gone = [scene.image(f"{number}", there=False) for number in range(3)]
    there = scene.image("there")
    other = scene.image("slow/b")
    for name in list(scene.fast.objects):
        if name != "there":
            del scene.fast.objects[name]
    report = scene.run()
    assert scene.fast.sent == []
    assert all(scene.is_untouched(image) for image in [*gone, there])
    assert scene.is_finished(other)
    assert report.status == "partial"
    assert "--accept-missing fast" in reasons(report)
    assert outcomes(report, "fast") == {"waiting": 4}


def test_an_operators_word_stands_for_the_missing_live_objects() -> None:
    scene = Scene(accept_missing={"fast"})
    scene.fast.objects.clear()
    images = [scene.image(f"{number}", there=False) for number in range(30)]
    report = scene.run()
    assert all(scene.is_finished(image) for image in images)
    assert outcomes(report) == {"gone": 30}


def test_an_operators_word_does_not_stand_for_a_missing_root() -> None:
    scene = Scene(accept_missing={"fast"})
    image = scene.image("a", there=False)
    scene.fast.mounted = None
    scene.run()
    assert scene.is_untouched(image)


def test_an_operators_word_is_for_one_store() -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), accept_missing={"slow"})
    scene.fast.objects.clear()
    scene.stores["slow"].objects.clear()
    image, other = scene.image("a", there=False), scene.image("slow/b", there=False)
    scene.run()
    assert scene.is_untouched(image)
    assert scene.is_finished(other)


def test_a_proven_store_is_believed_about_what_is_gone() -> None:
    scene = Scene()
    images = [scene.image(f"{number}", there=False) for number in range(50)]
    report = scene.run()
    assert all(scene.is_finished(image) for image in images)
    assert outcomes(report) == {"gone": 50}
    assert report.status == "succeeded"


def test_a_store_that_goes_away_in_mid_run_is_not_believed() -> None:
    """The first object that is missing makes it prove itself once more."""
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    images = [scene.image(f"{number}") for number in range(6)]

    def unmount(_names: list[str]) -> None:
        if len(scene.fast.sent) == 3:
            scene.fast.objects.clear()

    scene.fast.before_delete = unmount
    report = scene.run()
    assert sum(scene.is_finished(image) for image in images) == 2
    assert sum(scene.is_untouched(image) for image in images) == 4
    assert outcomes(report) == {"deleted": 2, "waiting": 4}
    assert len(scene.fast.sent) == 3


def test_all_that_find_something_missing_at_once_wait_for_the_new_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrubber.store_state.FIRST_CALLS", 4)
    scene = Scene(FakeDriver("fast", batch=1), pool_size=4)
    images = [scene.image(f"{number}", there=False) for number in range(4)]
    go_on = pool.Flag()

    def unmount(_names: list[str]) -> None:
        go_on.wait(PATIENCE)
        scene.fast.objects.clear()

    scene.fast.before_delete = unmount
    task = scene.start()
    until(lambda: scene.fast.running == 4)
    scene.fast.before_look = lambda _urls: pool.sleep(0.01)
    go_on.set()
    finish(task)
    assert all(scene.is_untouched(image) for image in images)


def test_a_bug_in_the_second_proof_is_no_proof_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrubber.store_state.FIRST_CALLS", 4)
    scene = Scene(FakeDriver("fast", batch=1), pool_size=4)
    images = [scene.image(f"{number}", there=False) for number in range(4)]
    go_on = pool.Flag()
    scene.fast.before_delete = lambda _names: go_on.wait(PATIENCE)
    task = scene.start()
    until(lambda: scene.fast.running == 4)

    def bug(_urls: list[str]) -> None:
        pool.sleep(0.01)
        raise ValueError("a bug")

    scene.fast.before_look = bug
    go_on.set()
    finish(task)
    assert not any(scene.is_finished(image) for image in images)
    assert scene.report.status in ("failed", "partial")


def test_while_a_store_proves_itself_once_more_nothing_is_sent_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was stopped in mid-run; what is queued or read meanwhile waits for the proof."""
    monkeypatch.setattr("scrubber.planning.circuit.FIRST_STEP", 0.0)
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2, page_size=1)
    for number in range(8):
        scene.image(f"{number}")
    probe, sent = scene.fast.probe, list[int]()
    failures = iter([errors.Unavailable("it is down")])

    def slow_probe() -> None:
        before = len(scene.fast.sent)
        for _ in range(20):
            pool.sleep(0)
        sent.append(len(scene.fast.sent) - before)
        probe()

    def fail_once(_names: list[str]) -> None:
        if failure := next(failures, None):
            raise failure

    monkeypatch.setattr(scene.fast, "probe", slow_probe)
    scene.fast.before_delete = fail_once
    scene.run()
    assert sent == [0, 0]
    assert len(scene.fast.sent) > 1


# Stores that never say gone -------------------------------------------------------------------


def test_a_store_that_never_says_gone_is_believed_once_it_is_proven() -> None:
    scene = Scene(FakeDriver("fast", says_gone=False))
    images = [scene.image(f"{number}", there=number % 2 == 0) for number in range(6)]
    report = scene.run()
    assert all(scene.is_finished(image) for image in images)
    assert outcomes(report) == {"deleted": 6}


def test_without_proof_only_what_was_seen_there_counts_as_deleted() -> None:
    """As a bucket of the same name on another server: it would say deleted to everything."""
    scene = Scene(FakeDriver("fast", says_gone=False), proven=False)
    missing = [scene.image(f"{number}", there=False) for number in range(30)]
    there = scene.image("there")
    report = scene.run()
    assert scene.fast.asked_to_delete == ["there"]
    assert scene.is_finished(there)
    assert all(scene.is_untouched(image) for image in missing)
    assert outcomes(report) == {"deleted": 1, "waiting": 30}
    assert "--accept-missing fast" in reasons(report)


def test_without_proof_a_store_that_cannot_be_looked_at_deletes_nothing() -> None:
    scene = Scene(FakeDriver("fast", says_gone=False), proven=False)
    image = scene.image("a")

    def fail(_urls: list[str]) -> None:
        raise errors.Unavailable("it is down")

    scene.fast.before_look = fail
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.is_untouched(image)
    assert report.stopped_stores["fast"] == "it is down"


def test_a_look_at_each_object_is_never_one_at_a_thousand() -> None:
    """Each is a request: all of them together would take longer than a call may."""
    scene = Scene(FakeDriver("fast", says_gone=False, batch=1000), proven=False, pool_size=1)
    for number in range(100):
        scene.image(f"{number}")
    looks: list[int] = []
    scene.fast.before_look = lambda urls: looks.append(len(urls))
    scene.run()
    assert sum(looks) == 100
    assert max(looks) <= LOOKED_AT


def test_an_operators_word_stands_for_a_look_at_each_object() -> None:
    scene = Scene(FakeDriver("fast", says_gone=False), proven=False, accept_missing={"fast"})
    images = [scene.image(f"{number}", there=False) for number in range(30)]
    scene.run()
    assert all(scene.is_finished(image) for image in images)


# Connections ------------------------------------------------------------------------------


def test_a_store_gets_no_more_calls_at_once_than_it_has_connections() -> None:
    fast = FakeDriver("fast", batch=1, connections=2)
    slow = FakeDriver("slow", batch=1)
    scene = Scene(fast, slow, pool_size=8)
    for number in range(20):
        scene.image(f"{number}")
        scene.image(f"slow/{number}")
    for driver in (fast, slow):
        driver.before_delete = lambda _names: pool.sleep(0.001)
    report = scene.run()
    assert fast.most_running == 2
    assert slow.most_running > 2
    assert outcomes(report) == {"deleted": 40}


def test_a_store_whose_calls_hang_leaves_the_other_slots_to_other_stores() -> None:
    fast = FakeDriver("fast", batch=1, connections=2)
    scene = Scene(fast, FakeDriver("slow"), pool_size=3)
    stuck = [scene.image(f"{number}") for number in range(10)]
    others = [scene.image(f"slow/{number}") for number in range(10)]
    go_on = pool.Flag()
    fast.before_delete = lambda _names: go_on.wait(PATIENCE)
    task = scene.start()
    until(lambda: all(scene.is_finished(image) for image in others))
    assert not any(scene.is_finished(image) for image in stuck)
    go_on.set()
    finish(task)
    assert all(scene.is_finished(image) for image in stuck)


def test_looks_on_behalf_of_another_store_keep_to_the_connections_too() -> None:
    slow = FakeDriver("slow", connections=2)
    scene = Scene(FakeDriver("fast", batch=1), slow, pool_size=8)
    looking, most = 0, 0

    def before_look(_urls: list[str]) -> None:
        nonlocal looking, most
        looking += 1
        most = max(most, looking)
        pool.sleep(0.001)
        looking -= 1

    slow.before_look = before_look
    for number in range(20):
        live = scene.glance.rows[scene.live_image(f"{number}", store="slow")].location.image_id
        scene.location(live, f"removed {number}")
    scene.run()
    assert most == 2


def test_what_went_into_the_trash_is_finished_and_not_counted_as_freed() -> None:
    scene = Scene()
    image = scene.image("a")
    scene.fast.answers["a"] = Trashed()
    report = scene.run()
    assert scene.is_finished(image)
    assert outcomes(report) == {"trashed": 1}
    assert report.total.bytes_freed == 0


def test_a_driver_learns_the_size_that_the_images_row_tells() -> None:
    """For stores that do not say what a delete freed."""
    scene = Scene(FakeDriver("fast", says_gone=False))
    scene.image("a", there=False, size=4711)
    report = scene.run()
    assert report.total.bytes_freed == 4711


THRESHOLDS = [
    # count, percent; objects missing, objects there; whether the missing ones are believed
    (10, 10, 10, 0, True),
    (10, 10, 11, 0, False),
    (10, 10, 11, 99, True),  # 11 of 110
    (10, 10, 12, 99, False),
    (0, 0, 1, 99, False),
    (0, 10, 1, 9, True),
    (0, 10, 1, 8, False),
    (0, 100, 20, 0, True),
    (5, 0, 5, 0, True),
]


@pytest.mark.parametrize(("count", "percent", "missing", "there", "believed"), THRESHOLDS)
def test_a_store_without_live_images_is_believed_about_few_missing_objects(
    count: int, percent: int, missing: int, there: int, believed: bool
) -> None:
    scene = Scene(proven=False, thresholds=Thresholds(count, percent))
    scene.fast.put("something else, so that it is no empty mount point")
    gone = [scene.image(f"gone-{number}", there=False) for number in range(missing)]
    images = [scene.image(f"there-{number}") for number in range(there)]
    report = scene.run()
    assert all(scene.is_finished(image) for image in images)
    assert all(scene.is_finished(image) is believed for image in gone)
    assert all(scene.is_untouched(image) is not believed for image in gone)
    assert outcomes(report).get("gone", 0) == (missing if believed else 0)
    assert ("--accept-missing fast" in reasons(report)) is not believed


def test_an_empty_store_without_live_images_is_not_believed_about_anything() -> None:
    scene = Scene(proven=False)
    image = scene.image("a", there=False)
    report = scene.run()
    assert scene.is_untouched(image)
    assert outcomes(report) == {"waiting": 1}


def test_each_root_of_a_store_has_to_prove_itself() -> None:
    """One of several data directories is not mounted, the others are."""
    scene = Scene(proven=False)
    scene.live_image("here/live")
    scene.fast.put("there/something")
    here = [scene.location(scene.image(), f"here/{number}", there=False) for number in range(20)]
    there = [scene.location(scene.image(), f"there/{number}", there=False) for number in range(20)]
    report = scene.run()
    assert {scene.glance.status_of(number) for number in here} == {"deleted"}
    assert {scene.glance.status_of(number) for number in there} == {"pending_delete"}
    assert outcomes(report) == {"gone": 20, "waiting": 20}


def test_one_root_without_its_live_objects_stops_the_store() -> None:
    scene = Scene(proven=False)
    scene.live_image("here/live")
    scene.live_image("there/live")
    del scene.fast.objects["there/live"]
    images = [scene.image(), scene.image()]
    scene.location(images[0], "here/a")
    scene.location(images[1], "there/b")
    report = scene.run()
    assert scene.fast.sent == []
    assert all(scene.is_untouched(image) for image in images)
    assert "there" in report.stopped_stores["fast"]


def test_a_few_new_objects_do_not_prove_a_store_that_lost_the_others() -> None:
    """Glance goes on writing into a directory whose file system is gone."""
    scene = Scene()
    for number in range(5):
        scene.live_image(f"lost-{number}")
        del scene.fast.objects[f"lost-{number}"]
    image = scene.image("a", there=False)
    scene.run()
    assert scene.is_untouched(image)


def test_what_is_held_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "MOST_MISSING", 5)
    scene = Scene(proven=False, thresholds=Thresholds(1000, 100))
    scene.fast.put("something")
    images = [scene.image(f"{number}", there=False) for number in range(30)]
    report = scene.run()
    assert all(scene.is_untouched(image) for image in images)
    assert outcomes(report) == {"waiting": 30}


def test_an_image_of_which_one_copy_is_held_back_is_finished_with_it() -> None:
    scene = Scene(proven=False)
    scene.fast.put("something")
    image = scene.image("1", "2", "3")
    del scene.fast.objects["2"]
    report = scene.run()
    assert scene.is_finished(image)
    assert outcomes(report) == {"deleted": 2, "gone": 1}
    assert report.total.images_scrubbed == 1


def test_a_stop_gives_back_what_was_held() -> None:
    scene = Scene(FakeDriver("fast", batch=1), proven=False, pool_size=1)
    scene.fast.put("something")
    first = scene.image("gone", there=False, id="0" * 36)
    scene.image("b", id="1" * 36)
    scene.fast.before_delete = lambda names: "b" in names and scene.stop.set()
    scene.run()
    assert scene.is_untouched(first)
