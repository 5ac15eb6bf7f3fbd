"""A store that does not say what its names lead to is not used, and holds up the others once."""

import time
from pathlib import Path

import pytest

from contract.fake_driver import FakeDriver
from contract.file_store import file_driver
from scrubber import errors, names, pool
from scrubber.model import Selection
from scrubber.orders import StoreOrder
from scrubber.planning import circuit
from scrubber.reporting.report import Report, utcnow
from unit.scenes import PATIENCE, Scene, finish, outcomes, reasons, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)


@pytest.fixture(autouse=True)
def no_time_to_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that failed may be asked again at once, and has next to no time to answer."""
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.0)
    monkeypatch.setattr(names, "SECONDS_AFTER_FAILURE", 0.05)


class Silent:
    """Keeps a store from saying its names until it is told to."""

    def __init__(self, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.answered = 0
        self.go_on = pool.Flag()
        monkeypatch.setattr(driver, "resolve", self)

    def __call__(self) -> None:
        self.asked += 1
        self.go_on.wait(PATIENCE)
        self.answered += 1


def run_again(scene: Scene) -> Report:
    scene.report = Report(utcnow)
    return scene.run()


def test_a_store_that_keeps_silent_is_not_used_though_its_probe_would_go_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its locations were compared with live ones under names that may be wrong."""
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), call_timeout=0.05)
    stuck, other = scene.image("a"), scene.image("slow/b")
    Silent(scene.fast, monkeypatch)
    report = scene.run()
    assert scene.is_untouched(stuck)
    assert scene.is_finished(other)
    assert scene.fast.sent == []
    assert outcomes(report) == {"deleted": 1, "waiting": 1}
    assert "no answer within" in reasons(report)
    assert "no answer within" in report.stopped_stores["fast"]


def test_a_store_that_cannot_say_its_names_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    image = scene.image("a")

    def fail() -> None:
        raise errors.Unavailable("no login")

    monkeypatch.setattr(scene.fast, "resolve", fail)
    assert reasons(scene.run()) == "no login"
    assert scene.is_untouched(image)
    monkeypatch.undo()
    run_again(scene)
    assert scene.is_finished(image)


def test_a_store_that_failed_before_holds_up_the_others_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    stuck = scene.image("a")
    scene.healths.of(scene.fast).broke("it was down")
    silent = Silent(scene.fast, monkeypatch)
    other = scene.image("slow/b")
    began = time.monotonic()
    scene.run()
    assert time.monotonic() - began < PATIENCE / 2 < scene.settings.call_timeout
    assert scene.is_finished(other)
    assert scene.is_untouched(stuck)
    silent.go_on.set()


def test_who_answered_too_late_is_waited_for_in_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    image = scene.image("a")
    scene.healths.of(scene.fast).broke("it was down")
    silent = Silent(scene.fast, monkeypatch)
    scene.run()
    assert scene.is_untouched(image)
    silent.go_on.set()
    until(lambda: silent.answered)
    slow = Silent(scene.fast, monkeypatch)
    pool.Task(lambda: (pool.sleep(0.2), slow.go_on.set()))
    run_again(scene)
    assert scene.is_finished(image)


def test_names_that_come_in_mid_run_are_not_used_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), page_size=1)
    stuck = [scene.image(f"{number}") for number in range(5)]
    scene.image("slow/first", id="0" * 36)
    scene.healths.of(scene.fast).broke("it was down")
    silent = Silent(scene.fast, monkeypatch)

    def answer(_name: str) -> None:
        silent.go_on.set()
        until(lambda: silent.answered)

    scene.stores["slow"].before_each = answer
    report = scene.run()
    assert all(scene.is_untouched(image) for image in stuck)
    assert outcomes(report) == {"deleted": 1, "waiting": 5}


def test_a_store_whose_time_has_not_come_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "FIRST_STEP", 100.0)
    scene = Scene()
    image = scene.image("a")
    silent = Silent(scene.fast, monkeypatch)
    scene.healths.of(scene.fast).broke("it was down")
    report = scene.run()
    assert silent.asked == 0
    assert scene.is_untouched(image)
    assert "it was down" in reasons(report)


def test_a_store_that_never_said_its_names_does_not_come_back_in_mid_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), pool_size=1, page_size=1)
    last = scene.image("last", id="f" * 36)
    for number in range(4):
        scene.image(f"slow/{number}", id=f"1{number:035}")
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.2)
    scene.healths.of(scene.fast).broke("it was down")
    scene.stores["slow"].before_each = lambda _name: pool.sleep(0.15)
    assert reasons(scene.run()) == "it was down"
    assert scene.is_untouched(last)


def test_a_store_that_said_its_names_before_may_come_back_in_mid_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not asked while it rests, and nothing about its names has changed since."""
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), pool_size=1, page_size=1)
    scene.image("a")
    scene.run()
    first, last = scene.image("first", id="0" * 36), scene.image("last", id="f" * 36)
    for number in range(4):
        scene.image(f"slow/{number}", id=f"1{number:035}")
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.2)
    scene.healths.of(scene.fast).broke("it was down")
    silent = Silent(scene.fast, monkeypatch)
    scene.stores["slow"].before_each = lambda _name: pool.sleep(0.15)
    run_again(scene)
    assert silent.asked == 0
    assert scene.is_untouched(first)
    assert scene.is_finished(last)


def test_a_defect_in_one_driver_leaves_the_other_stores_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    stuck, other = scene.image("a"), scene.image("slow/b")

    def fail() -> None:
        raise KeyError("x")

    monkeypatch.setattr(scene.fast, "resolve", fail)
    report = scene.run()
    assert report.failure is None
    assert reasons(report) == "defect in the driver: KeyError"
    assert scene.is_untouched(stuck)
    assert scene.is_finished(other)


def test_a_paused_store_that_keeps_silent_holds_up_nobody_and_is_not_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    other = scene.image("slow/b")
    silent = Silent(scene.fast, monkeypatch)
    scene.orders.replace({"fast": StoreOrder(paused=True)})
    scene.run()
    assert (silent.asked, silent.answered) == (1, 0)
    assert scene.is_finished(other)
    assert scene.healths.of(scene.fast).circuit == circuit.Circuit()
    silent.go_on.set()


def test_a_cancelled_run_waits_for_nobodys_names_and_blames_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "LOOK_SECONDS", 0.01)
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    images = [scene.image("a"), scene.image("slow/b")]
    silent, probes = Silent(scene.fast, monkeypatch), list[int]()
    monkeypatch.setattr(scene.stores["slow"], "probe", lambda: probes.append(1))
    run = scene.new_run()
    task = pool.Task(run.execute)
    until(lambda: silent.asked)
    run.cancel()
    finish(task)
    assert silent.answered == 0
    assert probes == []
    assert all(scene.is_untouched(image) for image in images)
    assert scene.report.status == "cancelled"
    assert scene.healths.of(scene.fast).circuit == circuit.Circuit()
    silent.go_on.set()


# Two names of one directory ---------------------------------------------------------------


class OneDirectory:
    """Store ``by_link`` has by a link what store ``plain`` has by name: live bytes in both."""

    def __init__(self, directory: Path) -> None:
        self.data, self.link = directory / "data", directory / "link"
        self.data.mkdir()
        self.link.symlink_to(self.data)
        stores = file_driver(self.link, store="by_link"), file_driver(self.data, store="plain")
        self.scene = Scene(*stores, proven=False)  # type: ignore[arg-type]
        self._add_live("by_link", self.link / "image")
        self._add_live("plain", self.data / "canary")
        pending = self.scene.glance.add_image()
        self.scene.glance.add_location(pending, f"file://{self.data}/image", store="plain")

    def _add_live(self, store: str, path: Path) -> None:
        path.write_text("live")
        glance = self.scene.glance
        image = glance.add_image(status="active", deleted=False, deleted_at=None)
        glance.add_location(image, f"file://{path}", store=store, status="active", deleted_at=None)

    def link_to(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.link.unlink()
        self.link.symlink_to(directory)

    def pause(self) -> None:
        self.scene.orders.replace({"by_link": StoreOrder(paused=True)})

    def live_bytes_outlive_a_run(self) -> bool:
        report = run_again(self.scene)
        assert outcomes(report) == {"shared": 1}
        return (self.data / "image").exists()


@pytest.fixture
def one_directory(tmp_path: Path) -> OneDirectory:
    return OneDirectory(tmp_path)


def test_live_bytes_under_a_second_name_are_never_deleted(one_directory: OneDirectory) -> None:
    assert one_directory.live_bytes_outlive_a_run()


def test_live_bytes_of_a_paused_store_are_never_deleted_under_another_name(
    one_directory: OneDirectory,
) -> None:
    one_directory.pause()
    assert one_directory.live_bytes_outlive_a_run()


def test_live_bytes_of_a_store_that_cannot_say_its_names_are_never_deleted_under_another_one(
    one_directory: OneDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise errors.Unavailable("slow")

    monkeypatch.setattr(one_directory.scene.stores["by_link"], "resolve", fail)
    assert one_directory.live_bytes_outlive_a_run()


def test_a_paused_store_is_not_known_by_the_names_of_an_earlier_run(
    one_directory: OneDirectory,
) -> None:
    """Its directory may be moved just while it is paused."""
    scene = one_directory.scene
    one_directory.link_to(one_directory.data.parent / "old")
    scene.selection = Selection(stores=frozenset({"none"}))
    scene.run()
    scene.selection = Selection()
    one_directory.pause()
    one_directory.link_to(one_directory.data)
    assert one_directory.live_bytes_outlive_a_run()
