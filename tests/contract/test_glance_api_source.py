"""What the pipeline relies on in a source, where Glance's API is that source."""

import datetime
from collections.abc import Callable, Sequence

import pytest

from contract.fake_glance_api import AN_HOUR, TAG, FakeGlanceApi
from scrubber import errors, pool
from scrubber.glance.client import Copy
from scrubber.model import Candidate, Kind, Outcome, Selection
from scrubber.planning.retirement import Query
from scrubber.sources import glance_api
from scrubber.sources.base import Finish
from scrubber.sources.glance_api import GlanceApiSource

A_SECOND = datetime.timedelta(seconds=1)
LEASE = 300.0
ALL = Selection()


@pytest.fixture
def glance() -> FakeGlanceApi:
    return FakeGlanceApi()


def source_of(glance: FakeGlanceApi, query: str = "") -> GlanceApiSource:
    parsed = Query.parse(query)
    return GlanceApiSource(glance, lambda: TAG, lambda: parsed, pool.Flag())  # type: ignore[arg-type]


def candidates(
    glance: FakeGlanceApi, selection: Selection = ALL, page_size: int = 100
) -> list[Candidate]:
    pages = source_of(glance).candidates(selection, page_size)
    return [candidate for page in pages for candidate in page]


def ids(candidates: Sequence[Candidate]) -> list[str]:
    return [candidate.image.id for candidate in candidates]


def test_each_marked_image_is_a_candidate_with_a_location_for_each_copy(
    glance: FakeGlanceApi,
) -> None:
    image = glance.add("fast", "slow", owner="somebody")
    glance.add("fast", tags=frozenset({"else"}))
    [candidate] = candidates(glance)
    assert (candidate.image.id, candidate.image.owner) == (image, "somebody")
    assert (candidate.kind, candidate.obstacle) == (Kind.RETIRED, None)
    assert [location.store for location in candidate.locations] == ["fast", "slow"]
    assert candidate.image.went_at == glance.clock - AN_HOUR


def test_a_location_has_the_same_number_in_every_process_and_no_other_has_it(
    glance: FakeGlanceApi,
) -> None:
    glance.add("fast", "slow", id="a")
    glance.add("fast", id="b")
    numbers = [location.id for at in candidates(glance) for location in at.locations]
    assert len(set(numbers)) == 3
    assert all(0 <= number < 2**63 for number in numbers)
    # Written down: what is in ledgers must be found after an update.
    assert Copy("a", "fast").number == 126990773949616813


KINDS = [
    # what the image is; its kind, the stores of its locations, and what stands against it
    ({"status": "deactivated"}, Kind.RETIRED, ["fast"], None),
    ({"status": "queued", "stores": ()}, Kind.RETIRED, ["glance"], None),
    ({"status": "pending_delete", "stores": ()}, Kind.HALF_DELETED, ["glance"], None),
    ({"status": "pending_delete", "tags": frozenset()}, Kind.HALF_DELETED, ["fast"], None),
    ({"protected": True}, Kind.RETIRED, ["fast", "slow"], Outcome.REFUSED),
    ({"status": "saving", "stores": ()}, Kind.RETIRED, ["glance"], Outcome.WAITING),
    (
        {"properties": {"os_glance_import_task": "a-task"}},
        Kind.RETIRED,
        ["fast", "slow"],
        Outcome.WAITING,
    ),
    # Glance leaves the mark behind, without a value.
    ({"properties": {"os_glance_importing_to_stores": ""}}, Kind.RETIRED, ["fast", "slow"], None),
]


@pytest.mark.parametrize(("values", "kind", "stores", "obstacle"), KINDS)
def test_every_kind_of_image_is_recognised_and_comes_once(
    glance: FakeGlanceApi,
    values: dict[str, object],
    kind: Kind,
    stores: list[str],
    obstacle: Outcome | None,
) -> None:
    glance.add(**{"stores": ("fast", "slow"), **values})  # type: ignore[arg-type]
    [candidate] = candidates(glance)
    assert candidate.kind is kind
    assert [location.store for location in candidate.locations] == stores
    assert (candidate.obstacle.outcome if candidate.obstacle else None) is obstacle


def test_an_image_that_glance_is_deleting_right_now_is_none(glance: FakeGlanceApi) -> None:
    glance.add("fast", status="deleted")
    assert candidates(glance) == []


SELECTIONS: list[tuple[Callable[[str], Selection], bool]] = [
    # the selection, given the image's id; whether the image of project "a" is in it
    (lambda id: Selection(), True),
    (lambda id: Selection(images=frozenset({id, "another"})), True),
    (lambda id: Selection(owners=frozenset({"a", "b"})), True),
    (lambda id: Selection(images=frozenset({id}), owners=frozenset({"b"})), False),
    (lambda id: Selection(images=frozenset({"another"})), False),
    (lambda id: Selection(owners=frozenset({"b"})), False),
]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(("selection", "expected"), SELECTIONS)
def test_a_run_can_be_narrowed_to_images_and_projects(
    glance: FakeGlanceApi,
    selection: Callable[[str], Selection],
    expected: bool,
    hidden: bool,
) -> None:
    image = glance.add("fast", owner="a")
    glance.hidden.update([image] if hidden else [])
    assert ids(candidates(glance, selection(image))) == ([image] if expected else [])


# Paging -----------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [1, 4, 25])
@pytest.mark.parametrize("page_size", [1, 3, 7, 100])
def test_every_candidate_comes_once_however_many_were_created_in_one_second(
    glance: FakeGlanceApi, page_size: int, together: int
) -> None:
    expected = [glance.add("fast", ago=(number // together) * A_SECOND) for number in range(25)]
    assert sorted(ids(candidates(glance, page_size=page_size))) == sorted(expected)


@pytest.mark.parametrize("together", [1, 4, 25])
@pytest.mark.parametrize("page_size", [1, 3, 7])
def test_candidates_that_are_deleted_while_paging_hide_no_others(
    glance: FakeGlanceApi, page_size: int, together: int
) -> None:
    """The last one of each page, which the next page begins at, among them."""
    expected = [glance.add("fast", ago=(number // together) * A_SECOND) for number in range(25)]
    seen = []
    for page in source_of(glance).candidates(Selection(), page_size):
        for candidate in page:
            seen.append(candidate.image.id)
            del glance.images[candidate.image.id]
    assert sorted(seen) == sorted(expected)


def test_a_marker_that_is_lost_while_others_of_its_second_stay_repeats_none(
    glance: FakeGlanceApi,
) -> None:
    expected = [glance.add("fast", ago=AN_HOUR) for _ in range(10)]
    seen: list[str] = []
    for page in source_of(glance).candidates(Selection(), 3):
        seen += ids(page)
        del glance.images[page[-1].image.id]
    assert sorted(seen) == sorted(expected)


def test_a_marker_that_is_lost_late_repeats_nothing_of_the_pages_before(
    glance: FakeGlanceApi,
) -> None:
    expected = [glance.add("fast", ago=AN_HOUR) for _ in range(12)]
    seen: list[str] = []
    for number, page in enumerate(source_of(glance).candidates(ALL, 3)):
        seen += ids(page)
        if number == 1:
            del glance.images[page[-1].image.id]
    assert sorted(seen) == sorted(expected)


def test_of_a_listing_in_two_parts_nothing_is_read_twice(
    glance: FakeGlanceApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    for number in range(50):
        glance.add("fast", ago=number * AN_HOUR)
    assert len(candidates(glance, page_size=5)) == 50
    # Ten pages, and one more each where a part begins or ends, or nothing is found.
    assert glance.asked("page") <= 16


def test_a_long_backlog_is_never_held_whole(glance: FakeGlanceApi) -> None:
    for number in range(2000):
        glance.add("fast", ago=number * A_SECOND)
    pages = source_of(glance).candidates(Selection(), 100)
    assert max(map(len, pages)) <= 100


def test_processes_begin_at_different_images(glance: FakeGlanceApi) -> None:
    for number in range(50):
        glance.add("fast", ago=number * AN_HOUR)
    first = {next(source_of(glance).candidates(Selection(), 5))[0].image.id for _ in range(20)}
    assert len(first) > 1


# Troubles ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [errors.Throttled("patience", 0.01), errors.Failed("500"), errors.Unavailable("gone")],
)
def test_a_glance_that_does_not_answer_for_a_moment_is_asked_again(
    glance: FakeGlanceApi, trouble: errors.StoreError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance_api, "PAUSE_SECONDS", 0.01)
    image = glance.add("fast")
    answers = iter([trouble])

    def fail_once(name: str, *_: str) -> None:
        if name == "page" and (error := next(answers, None)):
            raise error

    glance.before = fail_once
    assert ids(candidates(glance)) == [image]


@pytest.mark.parametrize(
    "trouble", [errors.Throttled("patience", 3600.0), errors.Refused("403"), errors.Gone("404")]
)
def test_a_glance_that_will_not_answer_ends_the_run(
    glance: FakeGlanceApi, trouble: errors.StoreError
) -> None:
    def fail(*_: str) -> None:
        raise trouble

    glance.before = fail
    with pytest.raises(errors.SourceUnavailable, match=str(trouble)):
        candidates(glance)


CHECKS = [
    # what Glance says at start; what is raised, and a word of it
    (errors.Refused("Glance says: 403"), errors.SourceError, "needs the role admin"),
    (errors.Gone("404"), errors.SourceError, "no Images API"),
    (errors.Unavailable("no connection"), errors.SourceUnavailable, "no connection"),
]


@pytest.mark.parametrize(("said", "raised", "word"), CHECKS)
def test_at_start_it_is_said_what_is_wrong(
    glance: FakeGlanceApi,
    said: errors.StoreError,
    raised: type[errors.ScrubberError],
    word: str,
) -> None:
    def fail(*_: str) -> None:
        raise said

    glance.before = fail
    with pytest.raises(raised, match=word):
        source_of(glance).check()


# Claims and finish: nothing is written -------------------------------------------------------


def test_a_claim_takes_all_and_is_given_back(glance: FakeGlanceApi) -> None:
    glance.add("fast", "slow")
    source, [candidate] = source_of(glance), candidates(glance)
    claimed = source.claim([candidate], LEASE)
    numbers = {location.id for location in candidate.locations}
    assert (claimed.candidates, claimed.lost, claimed.claim.locations) == (
        (candidate,),
        (),
        numbers,
    )
    triples = [(claimed.claim, candidate, location) for location in candidate.locations]
    assert source.still_ours(triples) == numbers
    assert source.renew(claimed.claim) == frozenset()
    source.release(claimed.claim, numbers)
    assert not claimed.claim.locations


def test_nothing_is_asked_or_written_for_what_is_done(glance: FakeGlanceApi) -> None:
    source = source_of(glance)
    source.finish(Finish(frozenset({1}), frozenset({"a"})))
    assert (source.live_since(), list(source.references(10))) == ([], [])
    assert glance.calls == []


# What is remembered ---------------------------------------------------------------------------


def test_what_is_remembered_of_an_image_shows_what_has_become_of_it(
    glance: FakeGlanceApi,
) -> None:
    there = glance.add("fast", "slow")
    taken_back = glance.add("slow", tags=frozenset())
    source = source_of(glance)
    rows = {at.id: at.status for at in source.locations([there, taken_back, "gone"])}
    assert rows[Copy(there, "fast").number] == "pending_delete"
    assert rows[Copy(taken_back, "slow").number] == "active"
    assert rows[Copy(taken_back, "fast").number] == "deleted"
    assert rows[Copy("gone", "fast").number] == "deleted"
    images = source.images([there, "gone"])
    assert (images[there].status, images["gone"].status) == ("active", "deleted")


def test_the_backlog_counts_what_was_marked_in_a_time(glance: FakeGlanceApi) -> None:
    glance.add("fast", ago=3 * AN_HOUR, size=5)
    glance.add("fast", ago=AN_HOUR, size=7)
    source = source_of(glance)
    hours = 3600.0
    assert source.backlog() == source.backlog(0, None)
    both = source.backlog()
    assert (both.images, both.bytes, both.oldest) == (2, 12, 3 * hours)
    assert source.backlog(older=2 * hours).images == 1
    assert source.backlog(older=0, younger=2 * hours).bytes == 7


# Restore --------------------------------------------------------------------------------------


def test_a_restore_takes_the_tag_away(glance: FakeGlanceApi) -> None:
    image = glance.add("fast")
    source = source_of(glance)
    source.unmark(image)
    assert candidates(glance) == []
    with pytest.raises(errors.RestoreRefused, match=f"image {image} does not carry the tag {TAG}"):
        source.unmark(image)
    with pytest.raises(errors.RestoreRefused, match="No image found with ID nobody"):
        source.unmark("nobody")
