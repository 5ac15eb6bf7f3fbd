"""What only the database source does: odd rows, lost answers, and giving images back."""

import datetime
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from contract.encryption import encrypt
from contract.worlds import AN_HOUR, LEASE, DatabaseWorld, image_and_locations, only
from scrubber import errors
from scrubber.model import Candidate, Location, Selection
from scrubber.planning.naming import Naming
from scrubber.sources.base import Finish
from scrubber.sources.rehearsal import RehearsalSource
from scrubber.sources.restoring import Held

ALL = Selection()


def pending_image(world: DatabaseWorld, locations: int = 1) -> Candidate:
    image = world.add_image()
    for number in range(locations):
        world.add_location(image, f"fake://fast/{image}-{number}")
    return only(world.source.candidates(Selection(images=frozenset({image})), 100))


# Rows -------------------------------------------------------------------------------------

ROWS = [
    # value, meta_data; store; whether the row can be read
    ("fake://fast/a", '{"store": "fast"}', "fast", True),
    ("fake://fast/a", '{"store": "fast", "validation_data": {"checksum": 1}}', "fast", True),
    # Older than multiple stores.
    ("fake://fast/a", "{}", None, True),
    ("fake://fast/a", "null", None, True),
    # The column is nullable, whatever Glance's model says.
    ("fake://fast/a", None, None, True),
    # Nobody can say which store these name.
    ("fake://fast/a", '{"store": 1}', None, False),
    ("fake://fast/a", '{"store": ["fast"]}', None, False),
    ("fake://fast/a", "[]", None, False),
    ("fake://fast/a", '"fast"', None, False),
    ("fake://fast/a", "", None, False),
    ("fake://fast/a", "{'store': 'fast'}", None, False),
    # No URL, or one that only a key could read.
    (None, "{}", None, False),
    ("", "{}", None, False),
    ("/var/lib/glance/images/a", "{}", None, False),
    ("bm90IGEgVVJMIGJ1dCBiYXNlNjQ=", "{}", None, False),
]


@pytest.mark.parametrize(("value", "meta_data", "store", "readable"), ROWS)
def test_an_odd_row_says_what_is_wrong_with_it_and_stops_no_other(
    database_world: DatabaseWorld,
    value: str | None,
    meta_data: str | None,
    store: str | None,
    readable: bool,
) -> None:
    world = database_world
    odd = world.add_image()
    world.add_row(odd, value=value, meta_data=meta_data)
    plain = pending_image(world)
    found = [at for page in world.source.candidates(ALL, 100) for at in page]
    [location] = next(at.locations for at in found if at.image.id == odd)
    assert plain in found
    assert bool(location.problem) is not readable
    if readable:
        assert (location.url, location.store) == (value, store)
    else:
        assert location.store is None
        assert "secret" not in (location.problem or "")


def test_deeply_nested_metadata_stops_no_other(database_world: DatabaseWorld) -> None:
    """A user with the right to set locations writes their metadata."""
    image = database_world.add_image()
    database_world.add_row(image, meta_data="[" * 100_000)
    pending_image(database_world)
    pages = list(database_world.source.candidates(ALL, 100))
    assert sum(map(len, pages)) == 2


@pytest.mark.parametrize(
    ("mark", "value", "importing"),
    [
        ("os_glance_import_task", "a-task-id", True),
        ("os_glance_importing_to_stores", "fast,slow", True),
        # Glance empties the list as stores are done.
        ("os_glance_importing_to_stores", "", False),
        ("os_glance_failed_import", "fast", False),
    ],
)
def test_which_properties_mark_an_import(
    database_world: DatabaseWorld, mark: str, value: str, importing: bool
) -> None:
    image, _ = database_world.add_live()
    database_world.add_property(image, mark, value)
    assert database_world.source.importing([image]) == frozenset([image] if importing else [])


def test_a_mark_that_was_taken_away_marks_nothing(database_world: DatabaseWorld) -> None:
    image, _ = database_world.add_live()
    database_world.add_property(image, "os_glance_import_task", "a-task-id", deleted=True)
    assert database_world.source.importing([image]) == frozenset()


def test_a_database_that_is_glances_is_accepted(database_world: DatabaseWorld) -> None:
    database_world.source.check()


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE image_locations",
        "ALTER TABLE image_locations DROP COLUMN status",
        "ALTER TABLE images RENAME COLUMN deleted_at TO removed_at",
        "DROP TABLE image_tags",
    ],
)
def test_another_schema_is_refused_with_what_is_missing(
    database_world: DatabaseWorld, damage: str
) -> None:
    database_world.execute(text(damage))
    with pytest.raises(errors.SourceError) as refused:
        database_world.source.check()
    missing = damage.split()[-1] if "RENAME" not in damage else "deleted_at"
    assert missing in str(refused.value)
    assert "[database]" in str(refused.value)
    assert "\n" not in str(refused.value)


# Claims -----------------------------------------------------------------------------------


def test_a_renewal_in_the_second_of_anothers_claim_does_not_take_it(
    database_world: DatabaseWorld,
) -> None:
    """Both tokens are whole seconds, so both write the same one."""
    world = database_world
    candidate = pending_image(world)
    mine = world.source.claim([candidate], LEASE)
    world.claimed_ago(candidate.locations[0].id, AN_HOUR / 2)
    mine.claim.token = world.location(candidate.locations[0].id).updated_at
    theirs = world.rival().claim([candidate], LEASE)
    assert theirs.candidates == (candidate,)
    assert world.source.renew(mine.claim) == {candidate.locations[0].id}


def test_a_renewal_whose_answer_was_lost_is_not_taken_for_anothers_claim(
    database_world: DatabaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been committed when the connection broke."""
    world = database_world
    candidate = pending_image(world)
    claimed = world.source.claim([candidate], LEASE)
    clock = iter(range(1, 100))
    start = world.source.now()
    monkeypatch.setattr(
        world.source._engine,
        "now",
        lambda _c: start + datetime.timedelta(seconds=10 * next(clock)),
    )
    write = world.source._engine.write

    def commit_and_lose_the_answer(work: Callable[..., object]) -> None:
        write(work)
        raise errors.SourceUnavailable("lost connection")

    monkeypatch.setattr(world.source._engine, "write", commit_and_lose_the_answer)
    with pytest.raises(errors.SourceUnavailable):
        world.source.renew(claimed.claim)
    triples = [(claimed.claim, candidate, candidate.locations[0])]
    assert world.source.still_ours(triples) == {candidate.locations[0].id}
    monkeypatch.setattr(world.source._engine, "write", write)
    assert world.source.renew(claimed.claim) == frozenset()
    assert world.source.still_ours(triples) == {candidate.locations[0].id}


def test_a_renewal_repeated_after_a_lost_answer_finds_what_it_wrote(
    database_world: DatabaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = database_world
    candidate = pending_image(world)
    claimed = world.source.claim([candidate], LEASE)
    start, clock = world.source.now(), iter(range(1, 100))
    monkeypatch.setattr(
        world.source._engine,
        "now",
        lambda _c: start + datetime.timedelta(seconds=10 * next(clock)),
    )
    write = world.source._engine.write

    def write_twice(work: Callable[..., object]) -> object:
        write(work)
        return write(work)

    monkeypatch.setattr(world.source._engine, "write", write_twice)
    assert world.source.renew(claimed.claim) == frozenset()
    [location] = candidate.locations
    assert world.source.still_ours([(claimed.claim, candidate, location)]) == {location.id}


def test_a_dry_run_writes_nothing(database_world: DatabaseWorld) -> None:
    world = database_world
    candidate = pending_image(world)
    claimed_by_another = pending_image(world)
    world.rival().claim([claimed_by_another], LEASE)
    before = (
        world.execute(text("SELECT * FROM images")),
        world.execute(text("SELECT * FROM image_locations")),
    )
    rehearsal = RehearsalSource(world.source._engine, None)
    claimed = rehearsal.claim([candidate, claimed_by_another], LEASE)
    assert claimed.candidates == (candidate,)
    assert claimed.lost == (claimed_by_another,)
    [location] = candidate.locations
    assert rehearsal.still_ours([(claimed.claim, candidate, location)]) == {location.id}
    assert rehearsal.renew(claimed.claim) == frozenset()
    rehearsal.finish(Finish(frozenset({location.id}), frozenset({candidate.image.id})))
    rehearsal.release(claimed.claim, {location.id})
    after = (
        world.execute(text("SELECT * FROM images")),
        world.execute(text("SELECT * FROM image_locations")),
    )
    assert after == before


# Live references --------------------------------------------------------------------------


def test_rows_committed_late_under_smaller_numbers_are_seen(database_world: DatabaseWorld) -> None:
    """Ids are given at INSERT, rows seen at COMMIT: a later transaction may end first."""
    world = database_world
    image, _ = world.add_live()
    columns = {"status": "active", "deleted": False, "deleted_at": None}
    world.add_row(image, id=5000, value="fake://fast/5000", **columns)
    assert len(list(world.source.references(100))) == 1
    world.add_row(image, id=4001, value="fake://fast/4001", **columns)
    world.add_row(image, id=5001, value="fake://fast/5001", **columns)
    seen = {live.location.id for live in world.source.live_since()}
    assert seen == {4001, 5001}
    assert world.source.live_since() == []


def test_many_live_rows_come_once_though_only_the_newest_are_remembered(
    database_world: DatabaseWorld,
) -> None:
    world = database_world
    image, _first = world.add_live()
    world.execute(
        text(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 6000) "
            "INSERT INTO image_locations (id, image_id, value, meta_data, status, deleted) "
            f"SELECT i, '{image}', 'fake://fast/' || i, '{{}}', 'active', 0 FROM n"
        )
    )
    pages = list(world.source.references(1000))
    assert sum(map(len, pages)) == 5992
    assert world.source.live_since() == []
    world.add_row(image, status="active", deleted=False)
    assert len(world.source.live_since()) == 1


def test_what_follows_a_rule_is_not_new_for_that(database_world: DatabaseWorld) -> None:
    """Few of these rows are read, so their numbers do not tell which was the newest."""
    world = database_world
    image, _first = world.add_live()
    world.execute(
        text(
            "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 6000) "
            "INSERT INTO image_locations (id, image_id, value, meta_data, status, deleted) "
            f"SELECT i, '{image}', 'fake://fast/{image}', '{{}}', 'active', 0 FROM n"
        )
    )
    known = [Naming("fake://fast/", "", "{}", is_live=True)]
    read = [at for page in world.source.references(1000, lambda: known) for at in page]
    assert len(read) < 100
    of_sample = [at.stands_for for at in read if at.naming in known]
    assert sum(of_sample) == pytest.approx(5991, abs=max(of_sample))
    # Ids are given before they are committed: those of the last thousand may come once.
    assert len(world.source.live_since()) <= 1000
    assert world.source.live_since() == []
    world.add_row(image, status="active", deleted=False)
    assert len(world.source.live_since()) == 1


def test_what_comes_is_new_though_a_row_that_is_not_live_has_a_higher_id(
    database_world: DatabaseWorld,
) -> None:
    """Rows that were brought over from elsewhere; PostgreSQL's sequence stays behind them."""
    world = database_world
    world.add_live()
    world.add_row(world.add_image(status="deleted"), id=1_000_000, status="deleted")
    world.add_row(world.add_image(), id=2_000_000)
    list(world.source.references(100))
    image = world.add_image(status="active", deleted=False, deleted_ago=None)
    world.add_row(image, id=11, status="active", deleted=False, deleted_at=None)
    assert [at.location.id for at in world.source.live_since()] == [11]


def test_what_was_pending_when_it_was_read_is_new_once_it_is_live(
    database_world: DatabaseWorld,
) -> None:
    """An unreadable one, restored in mid-run, must not go unnoticed."""
    world = database_world
    world.add_live()
    image = world.add_image()
    number = world.add_location(image, unreadable=True)
    list(world.source.references(100))
    world.source.live_since()
    world.change_image(image, status="active", deleted=False, deleted_at=None)
    world.change_location(number, status="active", deleted=False, deleted_at=None)
    [new] = world.source.live_since()
    assert (new.location.id, bool(new.location.problem)) == (number, True)


def test_what_was_decrypted_makes_no_rule(database_world: DatabaseWorld) -> None:
    """A rule is sent to the database, whose logs may show it."""
    world, key = database_world, "0123456789abcdef"
    image = world.add_image(status="active", deleted=False, deleted_ago=None)
    for value in (encrypt(f"s3://key:secret@host/{image}", key), f"file:///images/{image}"):
        world.add_row(image, value=value, status="active", deleted=False, deleted_at=None)
    [[decrypted, plain]] = world.rival(key).references(100)
    assert decrypted.location.url == f"s3://key:secret@host/{image}"
    assert decrypted.naming is None
    assert plain.naming


# Finish -----------------------------------------------------------------------------------


def test_what_belongs_to_a_half_deleted_image_goes_with_it(database_world: DatabaseWorld) -> None:
    world = database_world
    image = world.add_image(deleted=False, deleted_ago=None)
    other, _ = world.add_live()
    world.add_belongings(image)
    world.add_belongings(other)
    world.source.finish(Finish(frozenset(), frozenset({image})))
    assert world.belongings(image) == {(True, world.image(image).deleted_at)}
    assert world.belongings(other) == {(False, None)}


def test_what_belongs_to_an_image_restored_meanwhile_stays(database_world: DatabaseWorld) -> None:
    world = database_world
    image = world.add_image(deleted=False, deleted_ago=None)
    world.add_belongings(image)
    world.change_image(image, status="active")
    finished = world.source.finish(Finish(frozenset(), frozenset({image})))
    assert finished.changed_images == {image}
    assert world.belongings(image) == {(False, None)}


def test_what_belongs_to_a_half_deleted_image_stays_while_a_location_does(
    database_world: DatabaseWorld,
) -> None:
    world = database_world
    image = world.add_image(deleted=False, deleted_ago=None)
    world.add_location(image)
    world.add_belongings(image)
    world.source.finish(Finish(frozenset(), frozenset({image})))
    assert world.image(image).status == "pending_delete"
    assert world.belongings(image) == {(False, None)}


# Giving back ------------------------------------------------------------------------------


def no_other(_location: Location) -> bool:
    return False


def give_back(
    world: DatabaseWorld,
    image_id: str,
    *,
    leave: tuple[int, ...] = (),
    same: Callable[[Location], bool] = no_other,
    force: bool = False,
) -> Held | None:
    image, locations = image_and_locations(world, image_id)
    return world.source.give_back(
        image,
        back=[at for at in locations if at.id not in leave],
        leave=[at for at in locations if at.id in leave],
        same=same,
        since=world.source.now(),
        lease=LEASE,
        force=force,
    )


def whole_image(world: DatabaseWorld, locations: int = 2) -> tuple[str, list[int]]:
    """A deleted image with all that belongs to it, deleted at its own instant."""
    image = world.add_image()
    at = world.image(image).deleted_at
    world.add_belongings(image, deleted=True, deleted_at=at)
    return image, [world.add_location(image, f"fake://fast/{n}") for n in range(locations)]


def test_a_restored_image_is_active_with_all_that_went_with_it(
    database_world: DatabaseWorld,
) -> None:
    world = database_world
    image, numbers = whole_image(world)
    removed_before = world.add_property(
        image, "old", "value", deleted=True, deleted_at=world.ago(5 * AN_HOUR)
    )
    assert give_back(world, image) is None
    row = world.image(image)
    assert (row.status, row.deleted, row.deleted_at) == ("active", False, None)
    for number in numbers:
        location = world.location(number)
        assert (location.status, location.deleted, location.deleted_at) == ("active", False, None)
    assert (False, None) in world.belongings(image)
    old = world.execute(text(f"SELECT deleted FROM image_properties WHERE id = {removed_before}"))
    assert old == [(1,)]


def test_what_is_lost_of_a_restored_image_is_left_to_be_scrubbed(
    database_world: DatabaseWorld,
) -> None:
    world = database_world
    image, [back, lost] = whole_image(world)
    late = world.add_location(image, status="deleted")
    assert give_back(world, image, leave=(lost, late)) is None
    assert world.location(back).status == "active"
    for number in (lost, late):
        row = world.location(number)
        assert (row.status, row.deleted) == ("pending_delete", True)
    assert world.source.still_live([back, lost, late]) == {back}


HELD = [
    # how long ago it was claimed; --force; whether that forbids the restore, and has lapsed
    (0, False, (True, False)),
    (0, True, (True, False)),  # a scrubber at work is never passed over
    (LEASE - 30, True, (True, False)),
    (LEASE + 30, False, (True, True)),  # a paused one may still carry it out
    (LEASE + 30, True, None),
]


@pytest.mark.parametrize(("age", "force", "expected"), HELD)
@pytest.mark.parametrize("whose", ["own", "lost", "another image's"])
def test_a_claim_on_the_bytes_forbids_a_restore(
    database_world: DatabaseWorld,
    age: float,
    force: bool,
    expected: tuple[bool, bool] | None,
    whose: str,
) -> None:
    world = database_world
    image, [first, second] = whole_image(world)
    other_image = world.add_image()
    other = world.add_location(other_image, "fake://fast/the-same")
    number = {"own": first, "lost": second, "another image's": other}[whose]
    before = image_and_locations(world, image)
    unclaimed = world.location(number).updated_at
    world.claimed_ago(number, datetime.timedelta(seconds=age))
    held = give_back(
        world, image, leave=(second,), same=lambda at: at.url == "fake://fast/the-same", force=force
    )
    if expected is None:
        assert held is None
        assert world.image(image).status == "active"
        return
    assert held == Held(number, other_image if number == other else image, lapsed=expected[1])
    world.change_location(number, updated_at=unclaimed)
    assert image_and_locations(world, image) == before


def test_claims_on_other_bytes_forbid_nothing(database_world: DatabaseWorld) -> None:
    world = database_world
    image, _ = whole_image(world)
    candidate = pending_image(world)
    world.rival().claim([candidate], LEASE)
    assert give_back(world, image) is None


def test_a_claim_made_while_the_image_is_given_back_undoes_it(
    database_world: DatabaseWorld,
) -> None:
    """The scrubber claimed another row of the bytes, and saw the live one too late or not."""
    world = database_world
    image, numbers = whole_image(world)
    before = image_and_locations(world, image), world.belongings(image)
    other_image = world.add_image()
    other = world.add_location(other_image)
    write = world.source._engine.write
    writes = 0

    def claim_in_between(work: Callable[..., object]) -> object:
        nonlocal writes
        writes += 1
        if writes == 2:
            assert world.image(image).status == "active"
            world.claimed_ago(other, datetime.timedelta(0))
        return write(work)

    world.source._engine.write = claim_in_between  # type: ignore[method-assign, assignment]
    held = give_back(world, image, same=lambda at: at.id == other)
    assert held == Held(other, other_image, lapsed=False)
    after_image, after_rows = image_and_locations(world, image)
    (image_before, rows_before), belongings_before = before
    assert replace(after_image, updated_at=None) == replace(image_before, updated_at=None)
    assert after_rows == rows_before
    assert world.belongings(image) == belongings_before
    assert [row.id for row in after_rows] == numbers


@pytest.mark.parametrize(("ago", "refused"), [(0, True), (60, False)])
def test_the_same_object_in_a_row_that_was_scrubbed_meanwhile_forbids_it(
    database_world: DatabaseWorld, ago: int, refused: bool
) -> None:
    """The bytes were seen before, and may have gone with it."""
    world = database_world
    image, _ = whole_image(world)
    other_image = world.add_image(status="deleted")
    at = world.ago(datetime.timedelta(seconds=ago))
    other = world.add_location(other_image)
    world.change_location(other, status="deleted", deleted=True, deleted_at=at, updated_at=at)
    held = give_back(world, image, same=lambda at: at.id == other)
    assert held == (Held(other, other_image, lapsed=False) if refused else None)
    assert world.image(image).status == ("pending_delete" if refused else "active")


def before_the_second_look(world: DatabaseWorld, happens: Callable[[], object]) -> None:
    """What the restore wrote is committed, and it has not looked at the claims again."""
    write = world.source._engine.write
    writes = 0

    def write_later(work: Callable[..., object]) -> object:
        nonlocal writes
        writes += 1
        if writes == 2:
            happens()
        return write(work)

    world.source._engine.write = write_later  # type: ignore[method-assign, assignment]


def test_the_claim_on_an_image_that_is_deleted_again_outlives_the_restore(
    database_world: DatabaseWorld,
) -> None:
    """Else somebody could restore it in the middle of its deletion."""
    world = database_world
    image, [number, _] = whole_image(world)
    url = world.source.locations([image])[0].url

    def delete_and_claim() -> None:
        now = world.ago(datetime.timedelta(0))
        gone = {"deleted": True, "deleted_at": now, "updated_at": now}
        world.change_image(image, status="pending_delete", **gone)
        for location in world.source.locations([image]):
            world.change_location(location.id, status="pending_delete", **gone)
        world.change_location(number, updated_at=now + datetime.timedelta(seconds=1))

    before_the_second_look(world, delete_and_claim)
    with pytest.raises(errors.RestoreRefused, match="changed by somebody"):
        give_back(world, image, same=lambda at: at.url == url)
    assert world.is_claimed(number)
    assert world.image(image).status == "pending_delete"


def test_a_restore_that_was_undone_says_so_though_the_answer_got_lost(
    database_world: DatabaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = database_world
    image, _ = whole_image(world)
    other_image = world.add_image()
    other = world.add_location(other_image)
    before_the_second_look(world, lambda: world.claimed_ago(other, datetime.timedelta(0)))
    write = world.source._engine.write

    def lose_the_answer(work: Callable[..., object]) -> object:
        write(work)
        world.change_location(other, updated_at=world.location(other).deleted_at)
        return world.source._engine._transaction(work, write=True)

    monkeypatch.setattr(world.source._engine, "write", lose_the_answer)
    held = give_back(world, image, same=lambda at: at.id == other)
    assert world.image(image).status == "pending_delete"
    assert held == Held(other, other_image, lapsed=False)


CHANGES = [
    # what happened to the image since the restore read it
    {"status": "deleted"},
    {"status": "active", "deleted": False, "deleted_at": None},
    {"deleted": False},
    {"deleted_at": datetime.datetime(2020, 1, 1)},
]


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_changed_meanwhile_is_not_restored(
    database_world: DatabaseWorld, change: dict[str, object]
) -> None:
    world = database_world
    image_id, numbers = whole_image(world)
    image, locations = image_and_locations(world, image_id)
    world.change_image(image_id, **change)
    with pytest.raises(errors.RestoreRefused, match=image_id):
        world.source.give_back(
            image, locations, [], no_other, world.source.now(), LEASE, force=False
        )
    assert {world.location(number).status for number in numbers} == {"pending_delete"}


def test_a_purged_image_is_not_restored(database_world: DatabaseWorld) -> None:
    world = database_world
    image_id, _ = whole_image(world)
    image, locations = image_and_locations(world, image_id)
    world.execute(text("DELETE FROM images"))
    with pytest.raises(errors.RestoreRefused):
        world.source.give_back(
            image, locations, [], no_other, world.source.now(), LEASE, force=False
        )


@pytest.mark.parametrize("force", [False, True])
def test_a_location_scrubbed_meanwhile_is_not_restored(
    database_world: DatabaseWorld, force: bool
) -> None:
    """Its row says deleted, as that of a late copy does."""
    world = database_world
    image_id, [first, second] = whole_image(world)
    image, locations = image_and_locations(world, image_id)
    world.rival().finish(Finish(frozenset({first}), frozenset()))
    with pytest.raises(errors.RestoreRefused):
        world.source.give_back(
            image, locations, [], no_other, world.source.now(), LEASE, force=force
        )
    assert world.location(first).status == "deleted"
    assert world.location(second).status == "pending_delete"
    assert world.image(image_id).status == "pending_delete"


def test_a_destroyed_encryption_key_is_noticed(database_world: DatabaseWorld) -> None:
    world = database_world
    image, _ = whole_image(world)
    assert not world.source.destroys_encryption_key(image)
    world.add_property(
        image,
        "cinder_encryption_key_deletion_policy",
        "on_image_deletion",
        deleted=True,
    )
    assert world.source.destroys_encryption_key(image)


def test_metadata_survives_a_restore(database_world: DatabaseWorld) -> None:
    world = database_world
    image = world.add_image()
    metadata = json.dumps({"store": "fast", "custom": "value"})
    number = world.add_row(image, meta_data=metadata)
    assert give_back(world, image) is None
    rows = world.execute(text(f"SELECT meta_data FROM image_locations WHERE id = {number}"))
    assert rows == [(metadata,)]
