"""Deletes through Glance's API: one look before each step, and what its answers mean."""

import datetime
from pathlib import Path

import pytest

from contract.fake_glance_api import AN_HOUR, TAG, FakeGlanceApi
from scrubber import config, errors
from scrubber.glance import section
from scrubber.glance.client import Copy
from scrubber.model import Answer, Deleted, Found, Location, Requested, Target
from scrubber.options import GLANCE_API
from scrubber.stores import glance_api
from scrubber.stores.base import Driver, always
from scrubber.stores.glance_api import GlanceApiDriver, GlanceApiStores
from scrubber.stores.rehearsal import RehearsalDriver


@pytest.fixture
def glance() -> FakeGlanceApi:
    return FakeGlanceApi()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def driver_of(
    glance: FakeGlanceApi, directory: Path, store: str = "fast", text: str = ""
) -> GlanceApiDriver:
    """:param text: what else is in the configuration; Glance deletes at once by default."""
    stores = stores_of(glance, directory, text or "[DEFAULT]\ndelayed_delete = false\n")
    driver = stores.holder(location(store))
    assert isinstance(driver, GlanceApiDriver)
    return driver


def stores_of(glance: FakeGlanceApi, directory: Path, text: str) -> GlanceApiStores:
    file = directory / "scrubber.conf"
    file.write_text(text)
    conf = config.load(["--config-file", str(file)])
    section.register(conf)
    return GlanceApiStores(glance, glance_api.new_driver(conf, glance))  # type: ignore[arg-type]


def location(store: str | None) -> Location:
    return Location(1, "an-image", "glance-api://an-image/fast", store, "", None, None, None)


def delete(driver: Driver, image: str) -> Answer:
    [answer] = driver.delete([Target(Copy(image, driver.store).url)], always)
    return answer


def test_the_last_copy_takes_the_image_along(glance: FakeGlanceApi, directory: Path) -> None:
    image = glance.add("fast", "slow")
    assert delete(driver_of(glance, directory, "fast"), image) == Deleted(100)
    assert glance.images[image].stores == ("slow",)
    assert delete(driver_of(glance, directory, "slow"), image) == Deleted(100)
    assert image not in glance.images


def test_whichever_copy_is_the_last_one_then(glance: FakeGlanceApi, directory: Path) -> None:
    """One that could not be deleted keeps the image."""
    image = glance.add("fast", "slow")
    delete(driver_of(glance, directory, "slow"), image)
    assert glance.images[image].stores == ("fast",)
    delete(driver_of(glance, directory, "fast"), image)
    assert image not in glance.images


def test_what_goes_as_a_whole_frees_every_copy(glance: FakeGlanceApi, directory: Path) -> None:
    image = glance.add("fast", "slow", status="deactivated")
    assert delete(driver_of(glance, directory), image) == Deleted(200)


def test_where_no_single_copy_can_be_deleted_the_image_goes_as_a_whole(
    glance: FakeGlanceApi, directory: Path
) -> None:
    """Glance before version 2.10 answers that there is no such thing."""

    def unknown(name: str, *_: str) -> None:
        if name == "delete_copy":
            raise errors.Gone("404")

    glance.before = unknown
    image = glance.add("fast", "slow")
    assert delete(driver_of(glance, directory, "fast"), image) == Deleted(200)
    assert image not in glance.images


def test_a_copy_that_is_gone_takes_no_other_along(glance: FakeGlanceApi, directory: Path) -> None:
    image = glance.add("fast", "slow")

    def be_quicker(name: str, *_: str) -> None:
        if name == "delete_copy":
            glance.change(image, stores=("slow",))
            raise errors.Gone("404")

    glance.before = be_quicker
    assert isinstance(delete(driver_of(glance, directory, "fast"), image), errors.Changed)
    assert glance.images[image].stores == ("slow",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[DEFAULT]\ndelayed_delete = false\n", Deleted(100)),
        ("[DEFAULT]\ndelayed_delete = true\n", Requested()),
        # Glance does not tell, so nobody knows.
        ("[DEFAULT]\n", Requested()),
    ],
)
def test_bytes_are_freed_only_if_glance_is_known_to_delete_at_once(
    glance: FakeGlanceApi, directory: Path, text: str, expected: Answer
) -> None:
    image = glance.add("fast")
    driver = driver_of(glance, directory, text=text)
    rehearsal = RehearsalDriver(driver)
    target = Target(Copy(image, "fast").url)
    assert rehearsal.delete([target], always) == [expected]
    assert image in glance.images
    assert delete(driver, image) == expected


def test_a_half_deleted_image_frees_nothing(glance: FakeGlanceApi, directory: Path) -> None:
    image = glance.add(status="pending_delete", ago=2 * AN_HOUR)
    assert delete(driver_of(glance, directory, "glance"), image) == Requested()


CHANGED: list[tuple[str, dict[str, object]]] = [
    ("untagged", {"tags": frozenset()}),
    ("out of the query", {"owner": "b"}),
    ("its copy is gone", {"stores": ("slow",)}),
    ("being deleted", {"status": "deleted"}),
    ("being deleted with delayed_delete", {"status": "pending_delete"}),
]


@pytest.mark.parametrize("values", [at[1] for at in CHANGED], ids=[at[0] for at in CHANGED])
def test_what_changed_since_it_was_listed_is_left_without_a_word(
    glance: FakeGlanceApi, directory: Path, values: dict[str, object]
) -> None:
    image = glance.add("fast", owner="a")
    glance.change(image, **values, updated_at=glance.clock - datetime.timedelta(minutes=59))
    text = "[glance]\nretire_query = owner=a\n"
    answer = delete(driver_of(glance, directory, text=text), image)
    assert isinstance(answer, errors.Changed)
    assert glance.asked("delete") == glance.asked("delete_copy") == 0


A_DAY = "[DEFAULT]\ndelayed_delete = false\nscrub_time = 86400\n"


def test_what_was_untagged_and_tagged_again_waits_once_more(
    glance: FakeGlanceApi, directory: Path
) -> None:
    """Also if that was while it lay in a queue."""
    image = glance.add("fast", ago=25 * AN_HOUR)
    glance.change(image, updated_at=glance.clock - 23 * AN_HOUR)
    driver = driver_of(glance, directory, text=A_DAY)
    assert isinstance(delete(driver, image), errors.Changed)
    [look] = driver.look([Target(Copy(image, "fast").url)])
    assert isinstance(look, errors.Changed)
    glance.change(image, updated_at=glance.clock - 24 * AN_HOUR)
    assert delete(driver, image) == Deleted(100)


def test_a_copy_that_we_deleted_makes_the_others_wait_for_nothing(
    glance: FakeGlanceApi, directory: Path
) -> None:
    stores = stores_of(glance, directory, A_DAY)
    fast, slow = (stores.holder(location(at)) for at in ("fast", "slow"))
    image = glance.add("fast", "slow", ago=25 * AN_HOUR)
    assert delete(fast, image) == Deleted(100)
    assert glance.images[image].updated_at == glance.clock
    assert delete(slow, image) == Deleted(100)


def test_nor_does_it_hide_that_the_image_was_tagged_anew_after_it(
    glance: FakeGlanceApi, directory: Path
) -> None:
    stores = stores_of(glance, directory, A_DAY)
    fast, slow = (stores.holder(location(at)) for at in ("fast", "slow"))
    image = glance.add("fast", "slow", ago=25 * AN_HOUR)
    delete(fast, image)
    glance.clock += AN_HOUR
    glance.change(image, updated_at=glance.clock)
    assert isinstance(delete(slow, image), errors.Changed)
    assert image in glance.images


def test_what_was_begun_is_not_remembered_without_end(
    glance: FakeGlanceApi, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is forgotten waits, and is not deleted too early."""
    monkeypatch.setattr(glance_api, "_MOST_BEGUN", 2)
    stores = stores_of(glance, directory, A_DAY)
    fast, slow = (stores.holder(location(at)) for at in ("fast", "slow"))
    images = [glance.add("fast", "slow", ago=25 * AN_HOUR) for _ in range(3)]
    for image in images:
        delete(fast, image)
    answers = [delete(slow, image) for image in images]
    assert isinstance(answers[0], errors.Changed)
    assert answers[1:] == [Deleted(100)] * 2


REFUSED: list[tuple[str, dict[str, object], type[errors.StoreError]]] = [
    ("protected", {"protected": True}, errors.Refused),
    ("importing", {"properties": {"os_glance_import_task": "a-task"}}, errors.InUse),
    ("uploading", {"status": "uploading"}, errors.InUse),
]


@pytest.mark.parametrize(
    ("values", "answer"), [at[1:] for at in REFUSED], ids=[at[0] for at in REFUSED]
)
def test_what_stands_against_it_is_looked_for_once_more(
    glance: FakeGlanceApi,
    directory: Path,
    values: dict[str, object],
    answer: type[errors.StoreError],
) -> None:
    image = glance.add("fast")
    glance.change(image, **values)
    driver = driver_of(glance, directory)
    assert isinstance(delete(driver, image), answer)
    [look] = driver.look([Target(Copy(image, "fast").url)])
    assert isinstance(look, answer)
    assert glance.asked("delete") == 0


def test_what_others_have_accepted_stays(glance: FakeGlanceApi, directory: Path) -> None:
    image = glance.add("fast", visibility="shared")
    glance.members[image] = ["friend"]
    answer = delete(driver_of(glance, directory), image)
    assert isinstance(answer, errors.Refused)
    assert "friend" in str(answer)
    # Glance keeps the members of an image that is not shared any more, and heeds them no more.
    glance.change(image, visibility="private")
    assert delete(driver_of(glance, directory), image) == Deleted(100)


def test_what_is_there_is_found(glance: FakeGlanceApi, directory: Path) -> None:
    image = glance.add("fast")
    [look] = driver_of(glance, directory).look([Target(Copy(image, "fast").url)])
    assert isinstance(look, Found)
    assert look.size == 100


@pytest.mark.parametrize("error", [errors.Failed("no answer in time"), errors.InUse("conflict")])
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_delete_that_failed_since_it_was_done_is_no_failure(
    glance: FakeGlanceApi, directory: Path, error: errors.StoreError, is_gone: bool
) -> None:
    image = glance.add("fast")

    def fail(name: str, *_: str) -> None:
        if name == "delete":
            if is_gone:
                del glance.images[image]
            raise error

    glance.before = fail
    answer = delete(driver_of(glance, directory), image)
    assert isinstance(answer, errors.Changed) if is_gone else answer is error


@pytest.mark.parametrize("asked", [0, 1])
def test_nothing_is_sent_once_the_run_should_end(
    glance: FakeGlanceApi, directory: Path, asked: int
) -> None:
    """Also not after the look, which may have taken long."""
    image = glance.add("fast")
    answers = iter([True] * asked + [False])
    [answer] = driver_of(glance, directory).delete(
        [Target(Copy(image, "fast").url)], lambda: next(answers)
    )
    assert isinstance(answer, errors.NotSent)
    assert glance.asked("image") == asked
    assert glance.asked("delete") == 0


@pytest.mark.parametrize("url", ["file:///an-image", "glance-api://an-image", "glance-api:///fast"])
def test_only_a_copy_that_the_api_named_is_accepted(
    glance: FakeGlanceApi, directory: Path, url: str
) -> None:
    with pytest.raises(errors.Refused):
        driver_of(glance, directory).identify(url)


def test_a_probe_that_fails_stops_the_store(glance: FakeGlanceApi, directory: Path) -> None:
    def fail(*_: str) -> None:
        raise errors.Failed("500")

    driver = driver_of(glance, directory)
    driver.probe()
    glance.before = fail
    with pytest.raises(errors.Unavailable, match="500"):
        driver.probe()


# Stores -----------------------------------------------------------------------------------


def test_a_store_is_known_from_the_first_image_in_it(
    glance: FakeGlanceApi, directory: Path
) -> None:
    conf = config.load(["--config-file", str(_file(directory))])
    stores = GlanceApiStores(glance, glance_api.new_driver(conf, glance))  # type: ignore[arg-type]
    assert stores.holder(location("new")).store == "new"
    assert stores.holder(location("new")) is stores.holder(location("new"))
    assert stores.holder(location(None)).store == "glance"
    assert stores.knows("slow")
    assert not stores.knows("unknown")
    twin = stores.replaced_by(RehearsalDriver).holder(location("fast"))
    assert isinstance(twin, RehearsalDriver)


def test_a_store_has_limits_of_its_own(glance: FakeGlanceApi, directory: Path) -> None:
    text = "[backend_defaults]\nscrub_max_rate = 5\n[slow]\nscrub_max_rate = 1\n"
    assert driver_of(glance, directory, "slow", text).max_rate == 1
    assert driver_of(glance, directory, "fast", text).max_rate == 5


def _file(directory: Path) -> Path:
    file = directory / "scrubber.conf"
    file.write_text(f"[scrubber]\nsource = {GLANCE_API}\n")
    return file


def test_the_tag_and_the_query_are_those_of_now(glance: FakeGlanceApi, directory: Path) -> None:
    image = glance.add("fast")
    driver = driver_of(glance, directory, text="[glance]\nretire_tag = other\n")
    assert isinstance(delete(driver, image), errors.Changed)
    driver.section.conf.set_override("retire_tag", TAG, group="glance")
    assert delete(driver, image) == Requested()
