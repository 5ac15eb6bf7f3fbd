"""The contract of ledgers: what a run and an operator rely on.

A test module imports all of this and defines the fixture ``new_ledger``: each call gives one more
ledger on the same entries, as another process would have it.
"""

import datetime
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from scrubber.planning.retry import Trouble
from scrubber.state.base import Entry, Key, Ledger

__all__ = [
    "ledger",
    "test_a_key_is_image_and_location",
    "test_a_later_record_takes_the_place_of_the_former",
    "test_a_location_named_twice_counts_once",
    "test_a_long_error_is_cut",
    "test_a_retry_makes_due_what_was_asked_for_and_counts_it",
    "test_attempts_do_not_overflow",
    "test_entries_of_a_store_and_of_an_image",
    "test_names_and_errors_come_back_as_they_were",
    "test_no_database_refuses_what_a_store_may_say",
    "test_nothing_asked_is_nothing_done",
    "test_the_list_is_read_page_by_page_and_nothing_is_lost_or_doubled",
    "test_the_oldest_trouble_comes_first",
    "test_what_is_forgotten_is_gone_and_the_rest_stays",
    "test_what_one_process_records_another_finds",
    "test_what_was_recorded_is_found_whole",
]

NewLedger = Callable[[], Ledger]

# With a fraction: a cut one would make an entry due too early or too late.
NOON = datetime.datetime(2026, 3, 29, 12, 0, 0, 123456)
SECOND = datetime.timedelta(seconds=1)


@pytest.fixture
def ledger(new_ledger: NewLedger) -> Iterator[Ledger]:
    with closing(new_ledger()) as ledger:
        yield ledger


def image_id(number: int) -> str:
    return f"{number:032x}"


def an_entry(
    location: int = 1,
    *,
    image: str | None = None,
    store: str = "fast",
    owner: str | None = "project",
    size: int | None = 2**40,
    attempts: int = 3,
    failed: datetime.datetime = NOON,
    error: str = "HTTP 500",
) -> Entry:
    trouble = Trouble(attempts, failed, failed + 60 * SECOND, error)
    return Entry(location, image or image_id(location), store, owner, size, trouble)


def test_what_was_recorded_is_found_whole(ledger: Ledger) -> None:
    known = [an_entry(1), an_entry(2**40, owner=None, size=None), an_entry(3, size=0)]
    ledger.record(known)
    strangers = [Key(image_id(9), 9)]
    found = ledger.of([*(entry.key for entry in known), *strangers])
    assert found == {entry.location: entry for entry in known}
    assert list(ledger.entries()) == sorted(known, key=lambda entry: entry.key)


def test_nothing_asked_is_nothing_done(ledger: Ledger) -> None:
    ledger.record([an_entry()])
    ledger.record([])
    ledger.forget([])
    assert ledger.of([]) == {}
    assert len(list(ledger.entries())) == 1


def test_a_key_is_image_and_location(ledger: Ledger) -> None:
    """Clouds that share a ledger number their locations alike."""
    here, there = an_entry(7, image=image_id(1)), an_entry(7, image=image_id(2))
    ledger.record([here, there])
    assert ledger.of([here.key]) == {7: here}
    ledger.forget([here.key, Key(image_id(2), 8), Key(image_id(3), 7)])
    assert list(ledger.entries()) == [there]


def test_a_later_record_takes_the_place_of_the_former(ledger: Ledger) -> None:
    former, other = an_entry(1), an_entry(2)
    ledger.record([former, other])
    later = an_entry(
        1, store="slow", owner="heir", size=5, attempts=4, failed=NOON + SECOND, error="locked"
    )
    ledger.record([later])
    assert ledger.of([former.key, other.key]) == {1: later, 2: other}


def test_a_location_named_twice_counts_once(ledger: Ledger) -> None:
    ledger.record([an_entry(1, attempts=1), an_entry(2), an_entry(1, attempts=2)])
    assert ledger.of([an_entry(1).key])[1].trouble.attempts == 2
    ledger.forget([an_entry(1).key, an_entry(1).key])
    assert [entry.location for entry in ledger.entries()] == [2]


def test_what_is_forgotten_is_gone_and_the_rest_stays(ledger: Ledger) -> None:
    several = [an_entry(number) for number in range(1, 2502)]
    ledger.record(several)
    assert len(ledger.of([entry.key for entry in several])) == len(several)
    ledger.forget([entry.key for entry in several[1:]])
    assert list(ledger.entries()) == several[:1]
    ledger.forget([entry.key for entry in several])
    assert list(ledger.entries()) == []


def test_what_one_process_records_another_finds(new_ledger: NewLedger) -> None:
    with closing(new_ledger()) as first, closing(new_ledger()) as second:
        first.record([an_entry(1), an_entry(2)])
        second.record([an_entry(3)])
        second.forget([an_entry(2).key])
        assert [entry.location for entry in first.entries()] == [1, 3]
    with closing(new_ledger()) as later:
        assert list(later.entries()) == [an_entry(1), an_entry(3)]


def test_the_oldest_trouble_comes_first(ledger: Ledger) -> None:
    moments = {1: 2 * SECOND, 2: 0 * SECOND, 3: SECOND / 1000, 4: -SECOND}
    ledger.record([an_entry(at, failed=NOON + later) for at, later in moments.items()])
    assert [entry.location for entry in ledger.entries()] == [4, 2, 3, 1]


def test_the_list_is_read_page_by_page_and_nothing_is_lost_or_doubled(ledger: Ledger) -> None:
    """Many failed at one instant, some of them in one image."""
    several = [
        an_entry(number, image=image_id(number // 3), failed=NOON + (number // 1500) * SECOND)
        for number in range(3001)
    ]
    ledger.record(several)
    assert list(ledger.entries()) == several


def test_entries_of_a_store_and_of_an_image(ledger: Ledger) -> None:
    both = [an_entry(1, image=image_id(1)), an_entry(2, image=image_id(1), store="slow")]
    other = an_entry(3, store="slow")
    ledger.record([*both, other])
    assert list(ledger.entries(store="fast")) == both[:1]
    assert list(ledger.entries(store="slow")) == [both[1], other]
    assert list(ledger.entries(image=image_id(1))) == both
    assert list(ledger.entries(store="slow", image=image_id(1))) == both[1:]
    assert list(ledger.entries(store="none")) == []


RETRIES = [
    # the image, the store; whose turn comes
    (None, None, {1, 2, 3}),
    (image_id(1), None, {1, 2}),
    (None, "slow", {2, 3}),
    (image_id(1), "slow", {2}),
    (image_id(9), None, set()),
    (None, "none", set()),
]


@pytest.mark.parametrize(("image", "store", "due"), RETRIES)
def test_a_retry_makes_due_what_was_asked_for_and_counts_it(
    ledger: Ledger, image: str | None, store: str | None, due: set[int]
) -> None:
    ledger.record(
        [
            an_entry(1, image=image_id(1)),
            an_entry(2, image=image_id(1), store="slow"),
            an_entry(3, store="slow"),
        ]
    )
    before = {entry.location: entry for entry in ledger.entries()}
    now = NOON + 7 * SECOND
    assert ledger.retry(now, image=image, store=store) == len(due)
    assert ledger.retry(now, image=image, store=store) == len(due), "also when nothing changes"
    for entry in ledger.entries():
        old = before[entry.location].trouble
        assert entry.trouble.next_try_at == (now if entry.location in due else old.next_try_at)
        assert entry.trouble.attempts == old.attempts
        assert entry.trouble.first_failed_at == old.first_failed_at


TEXTS = [
    "two\nlines and a\ttab",
    'it\'s "quoted" %s %% \\ :name {0} ; --',
    "größer 漢字 🙈",
    "\x1b[31mred\x07",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_names_and_errors_come_back_as_they_were(ledger: Ledger, text: str) -> None:
    entry = an_entry(store=text, owner=text, error=text)
    ledger.record([entry])
    assert list(ledger.entries(store=text)) == [entry]


def test_no_database_refuses_what_a_store_may_say(ledger: Ledger) -> None:
    ledger.record([an_entry(error="nul \0, half a pair \ud800")])
    (entry,) = ledger.entries()
    assert entry.trouble.last_error == "nul \\x00, half a pair \\ud800"


@pytest.mark.parametrize("letter", ["x", "🙈", "\0"])
def test_a_long_error_is_cut(ledger: Ledger, letter: str) -> None:
    ledger.record([an_entry(error="short"), an_entry(2, error=letter * 10**6)])
    short, long = (entry.trouble.last_error for entry in ledger.entries())
    assert short == "short"
    assert len(long) == 1000
    assert long.endswith("…")


def test_attempts_do_not_overflow(ledger: Ledger) -> None:
    ledger.record([an_entry(attempts=10**12)])
    assert ledger.of([an_entry().key])[1].trouble.attempts == 2**31 - 1
