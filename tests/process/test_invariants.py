"""The judge of all chaos is itself judged: each violation is planted once, and found."""

from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from chaos.invariants import Kind, Violation, broken, left, look, repeated
from process.rows import IMAGES, LOCATIONS, Backlog


@pytest.fixture
def store(backlog: Backlog) -> Backlog:
    backlog.add_live(3)
    backlog.add_pending(3)
    return backlog


def change(backlog: Backlog, image: str, table: sa.TableClause, **values: object) -> None:
    column = table.c.id if table is IMAGES else table.c.image_id
    with backlog.database.engine.begin() as connection:
        connection.execute(sa.update(table).where(column == image).values(values))


def scrub(backlog: Backlog, image: str) -> None:
    backlog.path(image).unlink()
    for table in (LOCATIONS, IMAGES):
        change(backlog, image, table, status="deleted")


def found(backlog: Backlog, ask: Callable[..., list[Violation]]) -> list[tuple[str, Kind]]:
    violations = ask(look(backlog.database, backlog), kept=backlog.live)
    return [(violation.subject, violation.kind) for violation in violations]


def test_pending_images_violate_nothing_but_the_end(store: Backlog) -> None:
    assert found(store, broken) == []
    assert {kind for _, kind in found(store, left)} == {Kind.STILL_PENDING, Kind.BYTES_LEFT}


def test_scrubbed_images_violate_nothing(store: Backlog) -> None:
    for image in store.pending:
        scrub(store, image)
    assert found(store, left) == []


@pytest.mark.parametrize("table", [IMAGES, LOCATIONS], ids=["image", "location"])
def test_a_row_that_says_deleted_while_its_bytes_are_there(
    store: Backlog, table: sa.TableClause
) -> None:
    image = store.pending[0]
    change(store, image, table, status="deleted")
    assert found(store, broken) == [(image, Kind.RECORDED_BUT_THERE)]


def test_bytes_that_another_row_names_are_not_those_of_the_first(store: Backlog) -> None:
    image, url = store.pending[0], f"file://{store.path(store.live[0])}"
    change(store, image, LOCATIONS, value=url, status="deleted")
    assert found(store, broken) == []
    change(store, image, LOCATIONS, value="s3://bucket/elsewhere")
    assert found(store, broken) == []


def test_bytes_of_a_live_image_that_are_gone_or_cut_short(store: Backlog) -> None:
    gone, cut, _ = store.live
    store.path(gone).unlink()
    store.path(cut).write_bytes(b"byte")
    assert set(found(store, broken)) == {(gone, Kind.LIVE_BYTES_GONE), (cut, Kind.LIVE_BYTES_GONE)}


@pytest.mark.parametrize("table", [IMAGES, LOCATIONS], ids=["image", "location"])
def test_a_live_image_that_was_scrubbed_whole(store: Backlog, table: sa.TableClause) -> None:
    """The rows alone would look as if somebody had deleted it."""
    image = store.live[0]
    store.path(image).unlink()
    change(store, image, table, status="deleted")
    assert found(store, broken) == [(image, Kind.LIVE_ROW_CHANGED)]


@pytest.mark.parametrize("table", [IMAGES, LOCATIONS], ids=["image", "location"])
def test_a_row_that_is_pending_in_the_end(store: Backlog, table: sa.TableClause) -> None:
    for image in store.pending:
        scrub(store, image)
    change(store, store.pending[1], table, status="pending_delete")
    assert found(store, left) == [(store.pending[1], Kind.STILL_PENDING)]


def test_an_image_that_has_lost_its_rows_is_pending_all_the_same(store: Backlog) -> None:
    for image in store.pending:
        scrub(store, image)
    with store.database.engine.begin() as connection:
        connection.execute(sa.delete(LOCATIONS).where(LOCATIONS.c.image_id == store.pending[0]))
    change(store, store.pending[0], IMAGES, status="pending_delete")
    assert found(store, left) == [(store.pending[0], Kind.STILL_PENDING)]


def test_bytes_that_nobody_uses_in_the_end(store: Backlog) -> None:
    for image in store.pending:
        scrub(store, image)
    store.path("segment").write_bytes(b"bytes")
    assert found(store, left) == [("segment", Kind.BYTES_LEFT)]


def test_what_was_not_deleted_once() -> None:
    deletes = Counter({"once": 1, "twice": 2, "not wanted": 1})
    assert repeated(deletes, ["once"]) == [Violation("twice", Kind.DELETED_AGAIN)]
    assert repeated(deletes, ["once", "never", "twice"]) == [
        Violation("never", Kind.NEVER_DELETED),
        Violation("twice", Kind.DELETED_AGAIN),
    ]
