"""The contract of store drivers: what dispatch and planning rely on.

A module of tests imports all of it and defines the fixture ``place``.
"""

import abc
from typing import ClassVar

import pytest

from scrubber import errors
from scrubber.model import Answer, Deleted, Found, Target
from scrubber.stores import base
from scrubber.stores.rehearsal import RehearsalDriver


class Place(abc.ABC):
    """A driver, and its store as somebody else sees it."""

    driver: base.Driver

    #: URLs that this store must refuse, whatever it holds.
    refused: ClassVar[list[str]]

    #: Whether the driver itself sees that another root took its root's place; the canaries do
    #: in any case.
    notices_another_root: ClassVar[bool] = True

    #: Whether a look says how large an object is.
    says_size: ClassVar[bool] = True

    #: How many objects the largest batch of the suite holds: less where the server is slow.
    many: ClassVar[int] = 250

    @abc.abstractmethod
    def url(self, name: str) -> str: ...

    @abc.abstractmethod
    def spellings(self, name: str) -> list[str]:
        """Other URLs of the same object."""

    @abc.abstractmethod
    def put(self, name: str, size: int) -> None: ...

    @abc.abstractmethod
    def holds(self, name: str) -> bool: ...

    @abc.abstractmethod
    def remove_root(self) -> None: ...

    @abc.abstractmethod
    def replace_root(self) -> None:
        """Another root in its place; it holds objects of the same names."""


def delete(place: Place, *urls: str, size: int | None = None) -> list[Answer]:
    return list(place.driver.delete([Target(url, size) for url in urls], base.always))


def is_gone(place: Place, answer: Answer) -> bool:
    """Whether this says that nothing was there, if the store says such things."""
    if place.driver.abilities.says_gone:
        return isinstance(answer, errors.Gone)
    return isinstance(answer, Deleted)


def says_that_it_is_unavailable(place: Place, *urls: str) -> bool:
    """Of the whole store: raised, or said of every location."""
    try:
        answers = delete(place, *urls)
    except errors.Unavailable:
        return True
    return len(answers) == len(urls) and all(
        isinstance(answer, errors.Unavailable) for answer in answers
    )


def test_an_object_is_deleted_and_its_bytes_are_counted(place: Place) -> None:
    place.put("a", 1000)
    place.driver.probe()
    assert delete(place, place.url("a"), size=1000) == [Deleted(1000)]
    assert not place.holds("a")


def test_an_object_that_is_not_there_is_gone(place: Place) -> None:
    place.driver.probe()
    [answer] = delete(place, place.url("nothing"))
    assert is_gone(place, answer)


def test_a_second_delete_finds_the_object_gone(place: Place) -> None:
    place.put("a", 1)
    place.driver.probe()
    [first] = delete(place, place.url("a"))
    assert isinstance(first, Deleted)
    [second] = delete(place, place.url("a"))
    assert is_gone(place, second)


def test_an_object_twice_in_a_batch_is_deleted_once(place: Place) -> None:
    place.put("a", 1)
    place.driver.probe()
    [first, second] = delete(place, place.url("a"), place.url("a"))
    assert isinstance(first, Deleted)
    assert isinstance(second, Deleted | errors.Gone)
    assert not place.holds("a")


@pytest.mark.parametrize(
    "name",
    [
        "bilder-für-köln",  # Latin letters with marks
        "图像",  # outside of Latin
        "🦆",  # outside of the basic plane
        "a b",  # a space
        "a%20b",  # percent signs are literal
        "%2e%2e%2fetc",
        "a:b@c",  # what looks like credentials
        "-rf",
        "...",
    ],
)
def test_a_name_is_taken_literally(place: Place, name: str) -> None:
    place.put(name, 3)
    place.driver.probe()
    assert delete(place, place.url(name), size=3) == [Deleted(3)]
    assert not place.holds(name)


def test_a_look_says_what_is_there_and_changes_nothing(place: Place) -> None:
    place.put("a", 7)
    place.driver.probe()
    found, gone = place.driver.look([Target(place.url("a")), Target(place.url("b"))])
    assert isinstance(found, Found)
    assert found.size == (7 if place.says_size else None)
    assert found.modified_at.tzinfo is None
    assert isinstance(gone, errors.Gone)
    assert place.holds("a")


def test_one_object_has_one_fingerprint_and_two_have_two(place: Place) -> None:
    place.put("a", 1)
    place.put("b", 1)
    place.driver.probe()
    urls = [place.url("a"), *place.spellings("a"), place.url("b")]
    looks = place.driver.look([Target(url) for url in urls])
    prints = [look.fingerprint for look in looks if isinstance(look, Found)]
    assert len(prints) == len(urls)
    assert len(set(prints[:-1])) == 1
    assert prints[-1] != prints[0]


def test_every_spelling_of_an_object_has_its_identity(place: Place) -> None:
    place.put("a", 1)
    place.driver.probe()
    identity = place.driver.identify(place.url("a"))
    assert [place.driver.identify(url) for url in place.spellings("a")] == [identity] * len(
        place.spellings("a")
    )
    assert place.driver.identify(place.url("b")) != identity


def test_every_spelling_of_a_live_object_mentions_its_identity(place: Place) -> None:
    place.put("a", 1)
    place.driver.probe()
    identity = place.driver.identify(place.url("a"))
    urls = [place.url("a"), *place.spellings("a"), place.url("b"), "rbd://pool/image", ""]
    mentions = [set(readings) for readings in place.driver.mentions(urls)]
    assert len(mentions) == len(urls)
    for readings in mentions[:-3]:
        assert identity in readings
    for readings in mentions[-3:]:
        assert identity not in readings


def test_an_identity_is_free_of_credentials(place: Place) -> None:
    for url in place.spellings("a"):
        assert "secret" not in place.driver.identify(url)


def test_an_object_not_there_mentions_the_identity_it_would_have(place: Place) -> None:
    place.driver.probe()
    url = place.url("nothing")
    assert place.driver.identify(url) in set(place.driver.mentions([url])[0])


def test_what_is_not_its_own_is_refused_and_the_others_are_deleted(place: Place) -> None:
    place.put("a", 1)
    place.put("b", 2)
    place.driver.probe()
    urls = [place.url("a"), *place.refused, place.url("b")]
    first, *middle, last = delete(place, *urls)
    assert isinstance(first, Deleted)
    assert isinstance(last, Deleted)
    assert not place.holds("a")
    assert not place.holds("b")
    for answer, url in zip(middle, place.refused, strict=True):
        assert isinstance(answer, errors.Refused), url
    for url in place.refused:
        with pytest.raises(errors.Refused):
            place.driver.identify(url)
    for look in place.driver.look([Target(url) for url in place.refused]):
        assert isinstance(look, errors.Refused)


def test_no_message_quotes_a_url(place: Place) -> None:
    place.driver.probe()
    for scheme in place.driver.abilities.schemes:
        url = f"{scheme}://user:secret@other/name"
        with pytest.raises(errors.Refused) as refused:
            place.driver.identify(url)
        assert "secret" not in str(refused.value)


def test_a_batch_is_answered_one_by_one_in_its_order(place: Place) -> None:
    """A thousand locations: there, gone, refused and doubled, all mixed."""
    urls: list[str] = []
    expected: list[str] = []
    for number in range(place.many):
        place.put(f"a{number}", number)
        urls += [
            place.url(f"a{number}"),
            place.url(f"nothing{number}"),
            place.refused[number % len(place.refused)],
            place.url(f"a{number}"),
        ]
        expected += ["deleted", "gone", "refused", "deleted or gone"]
    place.driver.probe()
    answers = delete(place, *urls)
    assert len(answers) == len(urls)
    for answer, wanted in zip(answers, expected, strict=True):
        match wanted:
            case "deleted":
                assert isinstance(answer, Deleted)
            case "gone":
                assert is_gone(place, answer)
            case "refused":
                assert isinstance(answer, errors.Refused)
            case _:
                assert isinstance(answer, Deleted | errors.Gone)
    assert not any(place.holds(f"a{number}") for number in range(place.many))


def test_an_empty_batch_is_answered_with_nothing(place: Place) -> None:
    place.driver.probe()
    assert delete(place) == []
    assert list(place.driver.look([])) == []
    assert place.driver.mentions([]) == []


@pytest.mark.parametrize("allowed", [0, 1, 3, 10])
def test_a_batch_ends_where_it_is_told_to(place: Place, allowed: int) -> None:
    names = [f"a{number}" for number in range(10)]
    for name in names:
        place.put(name, 1)
    place.driver.probe()
    asked = 0

    def proceed() -> bool:
        nonlocal asked
        asked += 1
        return asked <= allowed

    targets = [Target(place.url(name)) for name in names]
    answers = list(place.driver.delete(targets, proceed))
    assert len(answers) == 10
    assert asked >= 1
    if not allowed:
        assert all(isinstance(answer, errors.NotSent) for answer in answers)
    # What was not sent is as it was, and comes after what was: one request may be many objects.
    sent = [not isinstance(answer, errors.NotSent) for answer in answers]
    assert sent == sorted(sent, reverse=True)
    assert [place.holds(name) for name in names] == [not deleted for deleted in sent]


def test_a_missing_root_is_unavailable(place: Place) -> None:
    place.remove_root()
    with pytest.raises(errors.Unavailable):
        place.driver.probe()


def test_a_root_that_goes_away_after_the_probe_makes_nothing_gone(place: Place) -> None:
    place.put("a", 1)
    place.driver.probe()
    place.remove_root()
    assert says_that_it_is_unavailable(place, place.url("a"))
    with pytest.raises(errors.Unavailable):
        place.driver.look([Target(place.url("a"))])


def test_a_root_that_was_replaced_after_the_probe_loses_nothing(place: Place) -> None:
    if not place.notices_another_root:
        pytest.skip("only canaries tell another root of that name")
    place.put("a", 1)
    place.driver.probe()
    place.replace_root()
    assert says_that_it_is_unavailable(place, place.url("a"), place.url("b"))
    with pytest.raises(errors.Unavailable):
        place.driver.look([Target(place.url("a"))])
    assert place.holds("a")


def test_nothing_is_deleted_from_a_root_that_was_never_probed(place: Place) -> None:
    if not place.notices_another_root:
        pytest.skip("its root cannot be told from another of that name")
    place.put("a", 1)
    assert says_that_it_is_unavailable(place, place.url("a"))
    assert place.holds("a")


def test_a_root_vouches_for_itself_only_if_it_holds_something(place: Place) -> None:
    place.driver.probe()
    root = place.driver.root(place.url("a"))
    assert not place.driver.holds_something(root)
    place.put("a", 1)
    place.driver.probe()
    assert place.driver.holds_something(root)


def test_every_object_is_in_a_root_and_what_is_not_its_own_in_none(place: Place) -> None:
    roots = {place.driver.root(url) for url in (place.url("a"), *place.spellings("b"))}
    assert len(roots) == 1
    for url in place.refused:
        with pytest.raises(errors.Refused):
            place.driver.root(url)


def test_a_driver_says_what_it_can(place: Place) -> None:
    abilities = place.driver.abilities
    assert abilities.schemes
    assert all(scheme == scheme.lower() for scheme in abilities.schemes)
    assert abilities.batch >= 1


def test_a_dry_run_counts_what_a_delete_would_free_and_deletes_nothing(place: Place) -> None:
    place.put("a", 5)
    rehearsal = RehearsalDriver(place.driver)
    rehearsal.probe()
    urls = [place.url("a"), place.url("nothing"), place.refused[0]]
    deleted, gone, refused = rehearsal.delete([Target(url, 5) for url in urls], base.always)
    assert deleted == Deleted(5)
    assert isinstance(gone, errors.Gone)
    assert isinstance(refused, errors.Refused)
    assert place.holds("a")
    assert rehearsal.identify(urls[0]) == place.driver.identify(urls[0])
    assert rehearsal.store == place.driver.store
    assert rehearsal.abilities is place.driver.abilities
    assert rehearsal.family == place.driver.family
