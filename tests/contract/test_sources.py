"""The contract of sources, over each of them: what planning, claims and finish rely on."""

import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from contract.worlds import AN_HOUR, LEASE, World, only
from scrubber.model import Candidate, Kind, Location, Outcome, Selection
from scrubber.planning.naming import Naming
from scrubber.sources.base import Claim, Claimed, Finish, Reference

A_MINUTE = datetime.timedelta(minutes=1)
ALL = Selection()


def all_candidates(world: World, page_size: int = 100) -> list[Candidate]:
    return [at for page in world.source.candidates(ALL, page_size) for at in page]


def only_candidate(world: World) -> Candidate:
    return only(world.source.candidates(ALL, 100))


def pending_image(world: World, locations: int = 1) -> Candidate:
    """A deleted image as a candidate, read back by its id."""
    image = world.add_image()
    for number in range(locations):
        world.add_location(image, f"fake://fast/{image}-{number}")
    return only(world.source.candidates(Selection(images=frozenset({image})), 100))


def ids(locations: tuple[Location, ...]) -> list[int]:
    return [location.id for location in locations]


def triples(claimed: Claimed) -> list[tuple[Claim, Candidate, Location]]:
    return [(claimed.claim, at, location) for at in claimed.candidates for location in at.locations]


# Candidates -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One image; its locations as (status, deleted how long ago).

    :param expected: the statuses of the locations that are offered.
    """

    name: str
    image: tuple[str, bool, datetime.timedelta | None]
    locations: tuple[tuple[str, datetime.timedelta | None], ...]
    kind: Kind | None
    expected: tuple[str, ...] = ()
    obstacle: Outcome | None = None
    importing: bool = False


PENDING = ("pending_delete", AN_HOUR)
ACTIVE = ("active", None)

KINDS = [
    # The ordinary delayed delete, with two copies.
    Case(
        "deleted image",
        ("pending_delete", True, AN_HOUR),
        (PENDING, PENDING),
        Kind.DELETED,
        ("pending_delete", "pending_delete"),
    ),
    # A copy that ended while the image was destroyed: its bytes are there.
    Case(
        "late copy",
        ("pending_delete", True, AN_HOUR),
        (PENDING, ("deleted", AN_HOUR)),
        Kind.DELETED,
        ("pending_delete", "deleted"),
    ),
    # Deleted earlier than the image: really gone, and never asked for again.
    Case(
        "copy scrubbed before",
        ("pending_delete", True, AN_HOUR),
        (PENDING, ("deleted", 5 * AN_HOUR)),
        Kind.DELETED,
        ("pending_delete",),
    ),
    # All bytes are gone, only the image itself is left to finish.
    Case(
        "stuck image",
        ("pending_delete", True, AN_HOUR),
        (("deleted", 2 * AN_HOUR),),
        Kind.DELETED,
    ),
    # Without deleted_at nothing can be a late copy: NULL equals nothing.
    Case(
        "no deleted_at anywhere",
        ("pending_delete", True, None),
        (("deleted", None),),
        Kind.DELETED,
    ),
    # The API process died before image_destroy.
    Case(
        "half-deleted image",
        ("pending_delete", False, None),
        (PENDING,),
        Kind.HALF_DELETED,
        ("pending_delete",),
    ),
    # Likewise, but one of its locations was not even marked.
    Case(
        "half-deleted with an active location",
        ("pending_delete", False, None),
        (PENDING, ACTIVE),
        Kind.HALF_DELETED,
        ("pending_delete",),
        Outcome.REFUSED,
    ),
    # Its active location would be forgotten with its bytes.
    Case(
        "deleted image with an active location",
        ("pending_delete", True, AN_HOUR),
        (PENDING, ACTIVE),
        Kind.DELETED,
        ("pending_delete",),
        Outcome.REFUSED,
    ),
    # Saved by an update in the middle of its deletion.
    Case(
        "torn image",
        ("active", True, AN_HOUR),
        (PENDING, ACTIVE),
        Kind.TORN,
        ("pending_delete", "active"),
        Outcome.REFUSED,
    ),
    Case("torn image without bytes", ("active", True, AN_HOUR), (("deleted", 2 * AN_HOUR),), None),
    # PATCH of locations or delete_from_store.
    Case(
        "removed location",
        ("active", False, None),
        (PENDING, ACTIVE),
        Kind.REMOVED,
        ("pending_delete",),
    ),
    # A PATCH that removed all locations leaves the image queued.
    Case("all removed", ("queued", False, None), (PENDING,), Kind.REMOVED, ("pending_delete",)),
    # A running import saves a stale copy of the image hours later.
    Case(
        "removed location while importing",
        ("active", False, None),
        (PENDING, ACTIVE),
        Kind.REMOVED,
        ("pending_delete",),
        Outcome.WAITING,
        importing=True,
    ),
    # Upstream's --restore: active again, its locations still pending.
    Case(
        "restored by upstream",
        ("active", False, AN_HOUR),
        (PENDING,),
        Kind.WRECK,
        ("pending_delete",),
        Outcome.REFUSED,
    ),
    # Upstream's --restore with a copy added since: deleted_at alone tells.
    Case(
        "restored by upstream, copied since",
        ("active", False, AN_HOUR),
        (PENDING, ACTIVE),
        Kind.WRECK,
        ("pending_delete",),
        Outcome.REFUSED,
    ),
    # The API process died between the locations and the image's status.
    Case(
        "crashed delete",
        ("active", False, None),
        (PENDING,),
        Kind.WRECK,
        ("pending_delete",),
        Outcome.REFUSED,
    ),
    # The same for an image that was deactivated before.
    Case(
        "crashed delete of a deactivated image",
        ("deactivated", False, None),
        (PENDING,),
        Kind.WRECK,
        ("pending_delete",),
        Outcome.REFUSED,
    ),
    # delayed_delete was switched off between removal and delete.
    Case("leftover", ("deleted", True, AN_HOUR), (PENDING,), Kind.LEFTOVER, ("pending_delete",)),
    # Nothing to do with us.
    Case("live image", ("active", False, None), (ACTIVE,), None),
    Case("tombstone", ("deleted", True, AN_HOUR), (("deleted", AN_HOUR),), None),
    Case("image being uploaded", ("saving", False, None), (), None),
]


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
def test_every_kind_of_row_is_recognised(world: World, case: Case) -> None:
    status, deleted, deleted_ago = case.image
    image = world.add_image(status=status, deleted=deleted, deleted_ago=deleted_ago)
    statuses = {
        world.add_location(image, status=status, deleted_ago=ago): status
        for status, ago in case.locations
    }
    if case.importing:
        world.start_import(image)
    if case.kind is None:
        assert all_candidates(world) == []
        return
    candidate = only_candidate(world)
    assert candidate.kind is case.kind
    assert tuple(statuses[number] for number in ids(candidate.locations)) == case.expected
    obstacle = candidate.obstacle.outcome if candidate.obstacle else None
    assert obstacle is case.obstacle


def test_the_live_locations_of_an_image_come_with_its_removed_ones(world: World) -> None:
    image, live = world.add_live()
    removed = world.add_location(image)
    candidate = only_candidate(world)
    assert ids(candidate.locations) == [removed]
    assert ids(candidate.siblings) == [live]


def test_the_locations_of_an_image_come_oldest_first(world: World) -> None:
    image = world.add_image()
    numbers = [world.add_location(image, f"fake://fast/{number}") for number in range(5)]
    assert ids(only_candidate(world).locations) == numbers


def test_a_location_says_where_its_bytes_are(world: World) -> None:
    image = world.add_image(owner="somebody")
    world.add_location(image, "fake://fast/a name", store="fast")
    world.add_location(image, "fake://slow/b", store=None)
    world.add_location(image, unreadable=True)
    candidate = only_candidate(world)
    assert candidate.image.owner == "somebody"
    first, second, third = candidate.locations
    assert (first.url, first.store, first.problem) == ("fake://fast/a name", "fast", None)
    assert (second.url, second.store) == ("fake://slow/b", None)
    assert third.url == ""
    assert third.problem


@pytest.mark.parametrize("page_size", [1, 3, 7, 100])
def test_every_candidate_comes_once_however_long_the_backlog(world: World, page_size: int) -> None:
    expected = set()
    for number in range(25):
        image = world.add_image()
        expected.add(image)
        if number % 5:  # every fifth is a stuck one
            world.add_location(image)
    pages = list(world.source.candidates(ALL, page_size))
    assert all(0 < len(page) <= page_size for page in pages)
    seen = [candidate.image.id for page in pages for candidate in page]
    assert sorted(seen) == sorted(expected)


def test_candidates_that_are_finished_while_paging_hide_no_others(world: World) -> None:
    expected = {pending_image(world).image.id for _ in range(20)}
    seen = []
    for page in world.source.candidates(ALL, 3):
        for candidate in page:
            seen.append(candidate.image.id)
            world.source.finish(
                Finish(frozenset(ids(candidate.locations)), frozenset({candidate.image.id}))
            )
    assert sorted(seen) == sorted(expected)


SELECTIONS: list[tuple[Callable[[str], Selection], bool]] = [
    # the selection, given the image's id; whether the image of project "a" is in it
    (lambda id: Selection(), True),
    (lambda id: Selection(images=frozenset({id})), True),
    (lambda id: Selection(owners=frozenset({"a", "b"})), True),
    (lambda id: Selection(images=frozenset({id}), owners=frozenset({"b"})), False),
    (lambda id: Selection(images=frozenset({"another"})), False),
    (lambda id: Selection(owners=frozenset({"b"})), False),
]


@pytest.mark.parametrize(("selection", "expected"), SELECTIONS)
def test_a_run_can_be_narrowed_to_images_and_projects(
    world: World, selection: Callable[[str], Selection], expected: bool
) -> None:
    image = world.add_image(owner="a")
    pages = list(world.source.candidates(selection(image), 100))
    assert bool(pages) is expected


def test_images_as_they_are_now(world: World) -> None:
    image = world.add_image()
    world.change_image(image, status="active", deleted=False, deleted_at=None)
    found = world.source.images([image, "nobody"])
    assert list(found) == [image]
    assert (found[image].status, found[image].deleted) == ("active", False)


# Claims -----------------------------------------------------------------------------------


def test_what_is_claimed_is_nobody_elses(world: World) -> None:
    candidate = pending_image(world, locations=2)
    mine = world.source.claim([candidate], LEASE)
    theirs = world.rival().claim([candidate], LEASE)
    assert mine.candidates == (candidate,)
    assert mine.claim.locations == set(ids(candidate.locations))
    assert theirs.candidates == ()
    assert theirs.lost == (candidate,)
    assert theirs.claim.locations == set()
    assert world.source.still_ours(triples(mine)) == mine.claim.locations


def test_a_claim_leaves_every_status_as_it_was(world: World) -> None:
    candidate = pending_image(world)
    [number] = ids(candidate.locations)
    before = world.location(number)
    world.source.claim([candidate], LEASE)
    after = world.location(number)
    assert (after.status, after.deleted) == (before.status, before.deleted)
    assert after.deleted_at == before.deleted_at
    assert world.image(candidate.image.id).status == "pending_delete"


def test_a_claim_takes_all_locations_of_an_image_or_none(world: World) -> None:
    contested, free = pending_image(world, locations=3), pending_image(world)
    world.claimed_ago(contested.locations[1].id, A_MINUTE)
    claimed = world.source.claim([contested, free], LEASE)
    assert claimed.candidates == (free,)
    assert claimed.lost == (contested,)
    assert claimed.claim.locations == set(ids(free.locations))
    assert not world.is_claimed(contested.locations[0].id)
    assert not world.is_claimed(contested.locations[2].id)


CHANGES_BEFORE_A_CLAIM = [
    # what happened to the image or its location between reading and claiming
    ("image restored", {"status": "active", "deleted": False, "deleted_at": None}, {}),
    ("image finished by another scrubber", {"status": "deleted"}, {}),
    ("image restored by upstream", {"status": "active", "deleted": False}, {}),
    ("half-deleted image deleted for good", {"deleted": False}, {}),
    ("location restored", {}, {"status": "active", "deleted": False}),
    ("location finished", {}, {"status": "deleted"}),
]


@pytest.mark.parametrize(
    ("image", "location"),
    [case[1:] for case in CHANGES_BEFORE_A_CLAIM],
    ids=[case[0] for case in CHANGES_BEFORE_A_CLAIM],
)
def test_what_changed_since_it_was_read_is_not_claimed(
    world: World, image: dict[str, object], location: dict[str, object]
) -> None:
    candidate = pending_image(world)
    if image:
        world.change_image(candidate.image.id, **image)
    if location:
        world.change_location(candidate.locations[0].id, **location)
    claimed = world.source.claim([candidate], LEASE)
    assert claimed.lost == (candidate,)
    assert not claimed.claim.locations


CLAIM_AGES = [
    # seconds since a claim was written; whether somebody else may take over
    (0, False),
    (LEASE - 30, False),
    (LEASE + 2, True),
    (30 * 86400, True),
]


@pytest.mark.parametrize(("age", "free"), CLAIM_AGES)
def test_a_claim_falls_to_others_only_when_its_lease_is_over(
    world: World, age: float, free: bool
) -> None:
    image = world.add_image(deleted_ago=1000 * AN_HOUR)
    number = world.add_location(image, deleted_ago=1000 * AN_HOUR)
    candidate = only_candidate(world)
    world.claimed_ago(number, datetime.timedelta(seconds=age))
    claimed = world.source.claim([candidate], LEASE)
    assert claimed.candidates == ((candidate,) if free else ())


def test_whoever_lost_its_claim_to_another_sees_it(world: World) -> None:
    candidate = pending_image(world)
    mine = world.source.claim([candidate], LEASE)
    world.claimed_ago(candidate.locations[0].id, AN_HOUR / 2)
    mine.claim.token = world.location(candidate.locations[0].id).updated_at
    theirs = world.rival().claim([candidate], LEASE)
    assert theirs.candidates == (candidate,)
    assert world.source.still_ours(triples(mine)) == frozenset()
    assert world.source.renew(mine.claim) == frozenset(ids(candidate.locations))
    assert mine.claim.locations == set()
    assert world.rival().still_ours(triples(theirs)) == theirs.claim.locations


def test_rows_without_any_times_can_be_claimed_and_given_back(world: World) -> None:
    image = world.add_image()
    number = world.add_location(image)
    world.change_location(number, deleted_at=None, updated_at=None)
    candidate = only_candidate(world)
    claimed = world.source.claim([candidate], LEASE)
    assert claimed.candidates == (candidate,)
    assert world.rival().claim([candidate], LEASE).candidates == ()
    world.source.release(claimed.claim, claimed.claim.locations)
    assert world.rival().claim([candidate], LEASE).candidates == (candidate,)


def test_a_renewed_claim_is_still_ours_and_still_nobody_elses(world: World) -> None:
    candidate = pending_image(world, locations=2)
    claimed = world.source.claim([candidate], LEASE)
    taken_at = claimed.claim.taken_at
    assert world.source.renew(claimed.claim) == frozenset()
    assert claimed.claim.taken_at > taken_at
    assert world.source.still_ours(triples(claimed)) == frozenset(ids(candidate.locations))
    assert world.rival().claim([candidate], LEASE).candidates == ()


def test_a_renewal_tells_which_locations_are_lost_and_keeps_the_others(world: World) -> None:
    candidate = pending_image(world, locations=2)
    first, second = ids(candidate.locations)
    claimed = world.source.claim([candidate], LEASE)
    world.claimed_ago(first, A_MINUTE)
    taken_over = world.location(first)
    assert world.source.renew(claimed.claim) == frozenset({first})
    assert claimed.claim.locations == {second}
    assert world.location(first) == taken_over
    assert world.source.still_ours(triples(claimed)) == frozenset({second})


def test_what_is_given_back_can_be_claimed_at_once(world: World) -> None:
    candidate = pending_image(world, locations=2)
    before = [world.location(number) for number in ids(candidate.locations)]
    claimed = world.source.claim([candidate], LEASE)
    world.source.release(claimed.claim, ids(candidate.locations))
    assert claimed.claim.locations == set()
    assert [world.location(number) for number in ids(candidate.locations)] == before
    assert world.source.still_ours(triples(claimed)) == frozenset()
    assert world.rival().claim([candidate], LEASE).candidates == (candidate,)


def test_giving_back_leaves_what_another_took_over(world: World) -> None:
    candidate = pending_image(world)
    claimed = world.source.claim([candidate], LEASE)
    world.claimed_ago(candidate.locations[0].id, A_MINUTE)
    world.source.release(claimed.claim, ids(candidate.locations))
    assert world.is_claimed(candidate.locations[0].id)


CHANGES_AFTER_A_CLAIM = [
    # what somebody does to the rows although they are claimed
    ("image restored by upstream", {"status": "active", "deleted": False}, {}),
    ("image deleted by upstream's scrubber", {"status": "deleted"}, {}),
    ("deleted flag put back", {"deleted": False}, {}),
    ("location restored", {}, {"status": "active"}),
    ("location finished", {}, {"status": "deleted"}),
    ("location touched", {}, {"updated_at": datetime.datetime(2026, 1, 1)}),
    ("location without times", {}, {"updated_at": None}),
]


@pytest.mark.parametrize(
    ("image", "location"),
    [case[1:] for case in CHANGES_AFTER_A_CLAIM],
    ids=[case[0] for case in CHANGES_AFTER_A_CLAIM],
)
def test_a_claim_does_not_hold_on_rows_that_were_changed(
    world: World, image: dict[str, object], location: dict[str, object]
) -> None:
    changed, untouched = pending_image(world), pending_image(world)
    claimed = world.source.claim([changed, untouched], LEASE)
    if image:
        world.change_image(changed.image.id, **image)
    if location:
        world.change_location(changed.locations[0].id, **location)
    assert world.source.still_ours(triples(claimed)) == frozenset(ids(untouched.locations))


def test_a_claim_of_a_clock_that_jumped_holds_nobody_up_for_ever(world: World) -> None:
    candidate = pending_image(world)
    world.claimed_ago(candidate.locations[0].id, -1000 * AN_HOUR)
    assert world.source.claim([candidate], LEASE).candidates == (candidate,)


def test_a_lapsed_claim_that_was_taken_over_and_given_back_stays_one(world: World) -> None:
    """Its first claimer may only be paused: a restore must know, other scrubbers need not."""
    image = world.add_image(deleted_ago=1000 * AN_HOUR)
    number = world.add_location(image, deleted_ago=1000 * AN_HOUR)
    world.claimed_ago(number, 10 * AN_HOUR)
    candidate = only_candidate(world)
    claimed = world.source.claim([candidate], LEASE)
    assert claimed.candidates == (candidate,)
    world.source.release(claimed.claim, {number})
    assert world.is_claimed(number)
    assert world.rival().claim([only_candidate(world)], LEASE).lost == ()


def test_a_location_deleted_in_the_future_is_not_claimed(world: World) -> None:
    """The clock of an API host that is ahead: a token would not be later than deleted_at."""
    image = world.add_image()
    number = world.add_location(image, deleted_ago=-AN_HOUR)
    [candidate] = all_candidates(world)
    assert world.source.claim([candidate], LEASE).lost == (candidate,)
    assert world.location(number).updated_at == world.location(number).deleted_at


# Live references --------------------------------------------------------------------------


def references(world: World, page_size: int = 100) -> list[Reference]:
    return [at for page in world.source.references(page_size) for at in page]


def live_urls(world: World, page_size: int = 100) -> list[str]:
    return [at.location.url for at in references(world, page_size) if at.is_live]


@pytest.mark.parametrize("page_size", [1, 4, 100])
def test_every_live_location_is_seen_once(world: World, page_size: int) -> None:
    expected = []
    for number in range(9):
        world.add_live(f"fake://fast/{number}")
        expected.append(f"fake://fast/{number}")
        pending_image(world)
    assert sorted(live_urls(world, page_size)) == expected


LIVE_ROWS = [
    # image's status, deleted, deleted_ago; location's status; live?
    (("active", False, None), "active", True),
    # Whatever Glance will make of it, somebody may read these bytes.
    (("deactivated", False, None), "active", True),
    (("saving", False, None), "active", True),
    # An active row of a deleted image: nobody else may have its bytes deleted.
    (("deleted", True, AN_HOUR), "active", True),
    (("pending_delete", False, None), "active", True),
    # A wreck's bytes are in use, whatever its rows say; they may have been lost already.
    (("active", False, AN_HOUR), "pending_delete", True),
    (("active", False, None), "pending_delete", True),
    (("deactivated", False, None), "pending_delete", True),
    # Not live.
    (("pending_delete", True, AN_HOUR), "pending_delete", False),
    (("pending_delete", False, None), "pending_delete", False),
    (("queued", False, None), "pending_delete", False),
    (("active", False, None), "deleted", False),
    (("deleted", True, AN_HOUR), "pending_delete", False),
]


@pytest.mark.parametrize("unreadable", [False, True], ids=["readable", "unreadable"])
@pytest.mark.parametrize(("image", "status", "live"), LIVE_ROWS)
def test_which_rows_are_live(
    world: World,
    image: tuple[str, bool, datetime.timedelta | None],
    status: str,
    live: bool,
    unreadable: bool,
) -> None:
    image_status, deleted, ago = image
    id = world.add_image(status=image_status, deleted=deleted, deleted_ago=ago)
    number = world.add_location(
        id,
        status=status,
        deleted_ago=None if status == "active" else AN_HOUR,
        unreadable=unreadable,
    )
    assert world.source.still_live([number]) == frozenset([number] if live else [])
    # Whether the image of a pending row is a wreck is looked up only if nothing else tells.
    is_live = live and (unreadable or status == "active")
    expected = [] if status == "deleted" else [(number, is_live)]
    assert [(at.location.id, at.is_live) for at in references(world)] == expected


def test_a_removed_location_is_not_live_while_another_is(world: World) -> None:
    image, live = world.add_live()
    removed = world.add_location(image, "fake://fast/removed")
    assert world.source.still_live([live, removed]) == {live}


def test_a_wreck_with_a_copy_made_since_uses_both(world: World) -> None:
    image = world.add_image(status="active", deleted=False, deleted_ago=AN_HOUR)
    pending = world.add_location(image, "fake://fast/pending")
    active = world.add_location(image, "fake://fast/copy", status="active", deleted_ago=None)
    assert world.source.still_live([pending, active]) == {pending, active}


def test_an_unreadable_live_location_is_seen_as_such(world: World) -> None:
    world.add_live(unreadable=True)
    [live] = references(world)
    assert live.is_live
    assert live.location.url == ""
    assert live.location.problem


# Locations that follow a rule --------------------------------------------------------------


def named(world: World, image: str, **columns: Any) -> int:
    return world.add_location(image, f"fake://fast/images/{image}", **columns)


def rules_of(world: World) -> set[Naming]:
    """Those that the locations of ``named`` follow in store fast: for live and for pending ones."""
    found = {at.naming for at in references(world) if at.location.store == "fast"}
    rules = {at for at in found if at and (at.before, at.after) == ("fake://fast/images/", "")}
    assert rules
    return rules


def read_besides(world: World, known: set[Naming]) -> set[int]:
    pages = world.source.references(100, lambda: known)
    return {at.location.id for page in pages for at in page}


def test_what_follows_a_known_rule_is_not_read(world: World) -> None:
    image = world.add_image(status="active", deleted=False, deleted_ago=None)
    live = {named(world, image, status="active", deleted_ago=None)}
    gone = world.add_image()
    pending = {named(world, gone)}
    read = read_besides(world, rules_of(world))
    # A few are, as a sample.
    assert len(read) <= 1
    assert read <= live | pending


def test_a_rule_for_pending_locations_is_none_for_live_ones(world: World) -> None:
    """Stores are proven by live ones: enough of them are read, however many are pending."""
    image = world.add_image(status="active", deleted=False, deleted_ago=None)
    live = named(world, image, status="active", deleted_ago=None)
    pending = named(world, world.add_image())
    of_live = {at for at in rules_of(world) if at.is_live}
    assert len(of_live) == 1
    assert pending in read_besides(world, of_live)
    assert live in read_besides(world, rules_of(world) - of_live)


NOT_BY_RULE = {
    "another name": "fake://fast/images/another",
    "another image's": f"fake://fast/images/{uuid.uuid4()}",
    "another place": "fake://fast/other/{image}",
    "more behind it": "fake://fast/images/{image}.part",
    "more before it": "fake://fast/images/x{image}",
}


@pytest.mark.parametrize("url", NOT_BY_RULE.values(), ids=NOT_BY_RULE)
@pytest.mark.parametrize("status", ["active", "pending_delete"])
def test_what_does_not_follow_the_rule_is_read(world: World, url: str, status: str) -> None:
    image, _ = world.add_live()
    named(world, image, status="active", deleted_ago=None)
    named(world, world.add_image())
    odd = world.add_location(
        image,
        url.format(image=image),
        status=status,
        deleted_ago=None if status == "active" else AN_HOUR,
    )
    assert odd in read_besides(world, rules_of(world))


@pytest.mark.parametrize(
    "id",
    [
        "17",
        "0f1e2d3c00004000800000000000abcd",
        "0f1e2d3c-0000-4000-8000-00000000abc",
        "image.c-0000-4000-8000-00000000abcde",
        "debian 12-0000-4000-8000-0000000abcd",
        "d\u00e9bian-12-000-4000-8000-0000000abcd",
    ],
)
def test_an_image_that_nobody_would_look_for_has_its_locations_read(world: World, id: str) -> None:
    """The names of objects are searched for ids as Glance gives them."""
    image, _ = world.add_live()
    named(world, image, status="active", deleted_ago=None)
    rules = rules_of(world)
    odd = world.add_image(id=id, status="active", deleted=False, deleted_ago=None)
    number = named(world, odd, status="active", deleted_ago=None)
    assert number in read_besides(world, rules)


def test_the_same_url_in_another_store_follows_no_rule_of_the_first(world: World) -> None:
    image, _ = world.add_live()
    named(world, image, status="active", deleted_ago=None)
    rules = rules_of(world)
    other = named(world, image, store="slow", status="active", deleted_ago=None)
    none = named(world, image, store=None, status="active", deleted_ago=None)
    assert {other, none} <= read_besides(world, rules)


def test_what_cannot_be_read_follows_no_rule(world: World) -> None:
    image, _ = world.add_live()
    named(world, image, status="active", deleted_ago=None)
    number = world.add_location(image, status="active", deleted_ago=None, unreadable=True)
    assert number in read_besides(world, rules_of(world))


def test_a_rule_that_is_learned_holds_from_the_next_page_on(world: World) -> None:
    images = [world.add_image() for _ in range(9)]
    for image in images:
        named(world, image)
    rules, known = rules_of(world), set[Naming]()
    pages = []
    for page in world.source.references(3, lambda: known):
        pages.append(page)
        known.update(rules)
    assert len(pages[0]) == 3
    assert sum(map(len, pages)) <= 3 + 1


def test_new_live_locations_are_seen_whatever_rule_they_follow(world: World) -> None:
    image, _ = world.add_live()
    named(world, image, status="active", deleted_ago=None)
    rules = rules_of(world)
    read_besides(world, rules)
    world.source.live_since()  # those of the newest that no page has shown may come once
    new = world.add_image(status="active", deleted=False, deleted_ago=None)
    number = named(world, new, status="active", deleted_ago=None)
    assert [at.location.id for at in world.source.live_since()] == [number]


def test_the_references_of_an_image_are_its_live_and_pending_locations(world: World) -> None:
    image, live = world.add_live()
    pending = world.add_location(image)
    world.add_location(image, status="deleted")
    gone = world.add_image()
    of_gone = world.add_location(gone)
    world.add_live()
    found = world.source.references_of([image, gone], [])
    assert sorted(at.id for at in found) == sorted([live, pending, of_gone])
    assert {at.id for at in world.source.references_of([image, gone], [pending, of_gone])} == {live}


def test_live_locations_that_come_later_are_seen_once(world: World) -> None:
    world.add_live("fake://fast/1")
    assert live_urls(world) == ["fake://fast/1"]
    assert world.source.live_since() == []
    world.add_live("fake://fast/2")
    pending_image(world)
    assert [live.location.url for live in world.source.live_since()] == ["fake://fast/2"]
    assert world.source.live_since() == []


def test_the_first_live_location_of_all_is_seen_when_it_comes(world: World) -> None:
    assert live_urls(world) == []
    world.add_live("fake://fast/1")
    assert [live.location.url for live in world.source.live_since()] == ["fake://fast/1"]


@pytest.mark.parametrize("page_size", [1, 4, 100])
def test_every_location_with_bytes_is_listed_once(world: World, page_size: int) -> None:
    """A restore can make each of the pending ones live."""
    expected = [at for _ in range(5) for at in ids(pending_image(world, 2).locations)]
    image, live = world.add_live()
    expected += [live, world.add_location(image)]
    world.add_location(image, status="deleted")
    pages = list(world.source.references(page_size))
    assert all(0 < len(page) <= page_size for page in pages)
    assert sorted(at.location.id for page in pages for at in page) == sorted(expected)


def test_still_live_tells_what_has_been_deleted_since(world: World) -> None:
    image, gone = world.add_live()
    _, stays = world.add_live()
    references(world)
    world.change_image(image, status="pending_delete", deleted=True)
    world.change_location(gone, status="pending_delete", deleted=True)
    assert world.source.still_live([gone, stays, 4711]) == frozenset({stays})
    [row] = world.source.live_among([gone, stays])
    assert (row.id, row.url) == (stays, "fake://fast/live")


PENDING = [
    # image's status and deleted, the location's status; the kind it is a candidate of
    ("pending_delete", True, "pending_delete", Kind.DELETED),
    ("pending_delete", False, "pending_delete", Kind.HALF_DELETED),
    ("deleted", True, "pending_delete", Kind.LEFTOVER),
    ("active", True, "pending_delete", Kind.TORN),
    ("active", False, "pending_delete", Kind.REMOVED),
    ("active", False, "active", None),
    ("deleted", True, "deleted", None),
]


@pytest.mark.parametrize(("image_status", "deleted", "status", "kind"), PENDING)
def test_a_location_is_asked_for_alone_while_it_is_pending(
    world: World, image_status: str, deleted: bool, status: str, kind: Kind | None
) -> None:
    """Such a row may come back: as long as it is not due, its bytes are needed."""
    image = world.add_image(status=image_status, deleted=deleted)
    number = world.add_location(image, status=status)
    world.add_location(image, "fake://fast/another")
    found = world.source.pending_among([number])
    assert [(at.kind, [row.id for row in at.locations]) for at in found] == (
        [(kind, [number])] if kind else []
    )


BUSY = [
    # image's status, deleted, importing; may Glance be writing its bytes?
    ("queued", False, False, True),
    ("saving", False, False, True),
    ("uploading", False, False, True),
    ("importing", False, False, True),
    ("active", False, True, True),
    ("active", False, False, False),
    ("deactivated", False, False, False),
    ("pending_delete", True, False, False),
    # Deleted while it was being uploaded: Glance cleans up after itself.
    ("saving", True, False, False),
]


@pytest.mark.parametrize(("status", "deleted", "importing", "busy"), BUSY)
def test_images_whose_bytes_glance_may_be_writing(
    world: World, status: str, deleted: bool, importing: bool, busy: bool
) -> None:
    image = world.add_image(status=status, deleted=deleted)
    other = world.add_image(status="saving", deleted=False)
    if importing:
        world.start_import(image)
    assert world.source.busy_images([image]) == frozenset([image] if busy else [])
    assert other not in world.source.busy_images([image])


def test_images_that_glance_is_importing_into(world: World) -> None:
    busy, idle, other = (world.add_live()[0] for _ in range(3))
    world.start_import(busy)
    world.start_import(other)
    assert world.source.importing([busy, idle]) == frozenset({busy})


# Finish -----------------------------------------------------------------------------------


def finish_of(candidate: Candidate) -> Finish:
    return Finish(frozenset(ids(candidate.locations)), frozenset({candidate.image.id}))


def test_a_finish_records_locations_and_image(world: World) -> None:
    candidate = pending_image(world, locations=2)
    deleted_at = world.image(candidate.image.id).deleted_at
    finished = world.source.finish(finish_of(candidate))
    assert not finished.changed_locations
    assert not finished.changed_images
    for number in ids(candidate.locations):
        row = world.location(number)
        assert (row.status, row.deleted) == ("deleted", True)
        assert row.deleted_at
    image = world.image(candidate.image.id)
    assert (image.status, image.deleted, image.deleted_at) == ("deleted", True, deleted_at)
    assert all_candidates(world) == []


def test_a_finish_done_twice_is_done_once(world: World) -> None:
    candidate = pending_image(world)
    first = world.source.finish(finish_of(candidate))
    assert world.source.finish(finish_of(candidate)) == first
    assert world.image(candidate.image.id).status == "deleted"


def test_an_image_with_locations_left_is_not_finished(world: World) -> None:
    candidate = pending_image(world, locations=2)
    first, second = ids(candidate.locations)
    world.source.finish(Finish(frozenset({first}), frozenset({candidate.image.id})))
    assert world.location(second).status == "pending_delete"
    assert world.image(candidate.image.id).status == "pending_delete"


def test_an_image_with_an_active_location_is_not_finished(world: World) -> None:
    image = world.add_image()
    world.add_location(image, status="active", deleted_ago=None)
    world.source.finish(Finish(frozenset(), frozenset({image})))
    assert world.image(image).status == "pending_delete"


def test_a_finished_late_copy_is_not_offered_again(world: World) -> None:
    image = world.add_image()
    world.add_location(image)
    late = world.add_location(image, status="deleted")
    assert late in ids(only_candidate(world).locations)
    world.source.finish(Finish(frozenset({late}), frozenset()))
    assert late not in ids(only_candidate(world).locations)


def test_a_stuck_image_is_finished(world: World) -> None:
    image = world.add_image()
    world.source.finish(Finish(frozenset(), frozenset({image})))
    assert world.image(image).status == "deleted"


def test_a_half_deleted_image_is_deleted_whole(world: World) -> None:
    image = world.add_image(deleted=False, deleted_ago=None)
    number = world.add_location(image)
    world.source.finish(Finish(frozenset({number}), frozenset({image})))
    row = world.image(image)
    assert (row.status, row.deleted) == ("deleted", True)
    assert row.deleted_at is not None


def test_finishing_a_removed_location_leaves_the_live_image_alone(world: World) -> None:
    image, live = world.add_live()
    removed = world.add_location(image)
    before = world.image(image), world.location(live)
    world.source.finish(Finish(frozenset({removed}), frozenset()))
    assert world.location(removed).status == "deleted"
    assert (world.image(image), world.location(live)) == before


def test_rows_that_somebody_changed_are_reported_and_left_alone(world: World) -> None:
    restored, untouched = pending_image(world), pending_image(world)
    [number] = ids(restored.locations)
    world.change_image(restored.image.id, status="active", deleted=False, deleted_at=None)
    world.change_location(number, status="active", deleted=False, deleted_at=None)
    finished = world.source.finish(
        Finish(
            frozenset([number, *ids(untouched.locations)]),
            frozenset({restored.image.id, untouched.image.id}),
        )
    )
    assert finished.changed_locations == frozenset({number})
    assert finished.changed_images == frozenset({restored.image.id})
    assert world.location(number).status == "active"
    assert world.image(restored.image.id).status == "active"
    assert world.image(untouched.image.id).status == "deleted"
