"""The contract of store drivers: what dispatch and planning rely on.

A module of tests imports all of it and defines the fixture ``place``.
"""

import abc
import enum
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import ClassVar

import pytest

from scrubber import errors
from scrubber.model import Answer, Deleted, Found, Target
from scrubber.stores import base
from scrubber.stores.rehearsal import RehearsalDriver


class Trouble(enum.Enum):
    """What may come in the place of an answer."""

    THROTTLED = "throttled"
    #: The store says when to come back: after PATIENCE seconds.
    THROTTLED_FOR_A_WHILE = "throttled for a while"
    SERVER_ERROR = "error 500"
    #: Nothing; the driver's call_timeout is short meanwhile.
    SILENT = "silent"
    RESET = "connection reset"
    #: An answer that says yes, and breaks off.
    HALF = "half an answer"

    @property
    def retry_after(self) -> float | None:
        return PATIENCE if self is Trouble.THROTTLED_FOR_A_WHILE else None


PATIENCE = 7

#: Seconds of call_timeout while a store is silent.
IMPATIENCE = 0.3

#: What a delete in trouble is answered with.
MEANS: dict[Trouble, tuple[type[errors.StoreError], ...]] = {
    Trouble.THROTTLED: (errors.Throttled,),
    Trouble.THROTTLED_FOR_A_WHILE: (errors.Throttled,),
    Trouble.SERVER_ERROR: (errors.Failed, errors.Unavailable),
    Trouble.SILENT: (errors.Unavailable,),
    Trouble.RESET: (errors.Unavailable,),
    Trouble.HALF: (errors.Failed, errors.Unavailable),
}

in_every_trouble = pytest.mark.parametrize("trouble", Trouble, ids=lambda trouble: trouble.value)


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

    #: Whether the driver knows the URLs that Glance writes from all others.
    knows_plain_urls: ClassVar[bool] = True

    #: How many objects the largest batch of the suite holds: less where the server is slow.
    many: ClassVar[int] = 250

    #: That of the driver's section, which asks for it each time.
    call_timeout: float = 30

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

    def in_trouble(
        self, trouble: Trouble, name: str | None = None
    ) -> AbstractContextManager[None] | None:
        """While it lasts the store answers so; None: a test cannot bring it about.

        :param name: if it is given, only to the request that deletes this object, and maybe
            others with it.
        """
        return None

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """With a short call_timeout."""
        self.call_timeout, before = IMPATIENCE, self.call_timeout
        try:
            yield
        finally:
            self.call_timeout = before


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


def test_plain_urls_that_differ_in_an_image_id_mean_objects_that_differ_in_it(
    place: Place,
) -> None:
    """So who uses such an object is found by the image's id, without reading all URLs."""
    place.driver.resolve()
    first, second = (str(uuid.uuid4()) for _ in range(2))
    url = place.url(first)
    assert place.driver.is_plain(url) == place.knows_plain_urls
    odd = [f"{url}?query", f"{url}#part", f"{url}/more", f"{url}%20", f"{url}.part"]
    for written in filter(place.driver.is_plain, [url, *place.spellings(first), *odd]):
        [found, others] = place.driver.mentions([written, written.replace(first, second)])
        assert {identity.replace(first, second) for identity in found} == set(others)
        assert all(first in identity for identity in found)
    if place.knows_plain_urls:
        assert place.driver.identify(url).endswith(first)
    for written in filter(place.driver.is_plain, [url, *place.spellings(first)]):
        with suppress(errors.Refused):
            identity = place.driver.identify(written)
            [found] = place.driver.mentions([written])
            assert set(found) == {identity}


@pytest.mark.parametrize("url", ["", "no URL", "http://web/image"])
def test_a_url_of_no_store_is_not_plain(place: Place, url: str) -> None:
    assert not place.driver.is_plain(url)


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


def troubled(
    place: Place, trouble: Trouble, name: str | None = None
) -> AbstractContextManager[None]:
    lasting = place.in_trouble(trouble, name)
    if lasting is None:
        pytest.skip(f"no test can bring this about in {type(place).__name__}: {trouble.value}")
    return lasting


def delete_in_trouble(place: Place, *urls: str) -> list[Answer]:
    """Trouble of the whole store is raised, or said in the place of each object."""
    try:
        return delete(place, *urls)
    except errors.Unavailable as unavailable:
        return [unavailable] * len(urls)


def says(trouble: Trouble, answer: Answer) -> bool:
    if isinstance(answer, errors.Throttled) and answer.retry_after != trouble.retry_after:
        return False
    return isinstance(answer, MEANS[trouble])


@in_every_trouble
def test_a_delete_in_trouble_says_so_and_the_next_call_deletes(
    place: Place, trouble: Trouble
) -> None:
    place.put("a", 1)
    place.put("b", 1)
    place.driver.probe()
    urls = [place.url("a"), place.url("b")]
    with troubled(place, trouble):
        answers = delete_in_trouble(place, *urls, place.url("nothing"))
    assert len(answers) == 3
    assert says(trouble, answers[0]), repr(answers[0])
    for answer in answers[1:]:
        assert says(trouble, answer) or isinstance(answer, errors.NotSent), repr(answer)
    for answer in delete(place, *urls):
        # A store that was only silent may have done it meanwhile.
        may_be_gone = trouble is Trouble.SILENT
        assert isinstance(answer, Deleted) or (may_be_gone and is_gone(place, answer)), repr(answer)
    assert not place.holds("a")
    assert not place.holds("b")


@in_every_trouble
def test_a_look_in_trouble_neither_finds_nor_misses_anything(
    place: Place, trouble: Trouble
) -> None:
    place.put("a", 1)
    place.driver.probe()
    with troubled(place, trouble):
        try:
            looks = list(place.driver.look([Target(place.url("a")), Target(place.url("nothing"))]))
        except errors.Unavailable:
            looks = []
    for look in looks:
        assert isinstance(look, errors.StoreError), repr(look)
        assert not isinstance(look, errors.Gone)
    [found] = place.driver.look([Target(place.url("a"))])
    assert isinstance(found, Found)


@pytest.mark.parametrize(
    # One object of many is not told how long it has to wait.
    "trouble",
    [trouble for trouble in Trouble if trouble is not Trouble.THROTTLED_FOR_A_WHILE],
    ids=lambda trouble: trouble.value,
)
def test_trouble_with_one_object_of_a_batch_is_told_from_what_was_deleted(
    place: Place, trouble: Trouble
) -> None:
    names = ["a", "b", "bad", "c"]
    for name in names:
        place.put(name, 1)
    place.driver.probe()
    urls = [*map(place.url, names), place.url("nothing"), place.refused[0]]
    with troubled(place, trouble, "bad"):
        *answers, nothing, refused = delete_in_trouble(place, *urls)
    bad = answers[names.index("bad")]
    assert says(trouble, bad), repr(bad)
    for name, answer in zip(names, answers, strict=True):
        assert isinstance(answer, Deleted) is not place.holds(name), name
    if trouble is Trouble.SERVER_ERROR:
        assert sum(isinstance(answer, Deleted) for answer in answers) == len(names) - 1
        assert is_gone(place, nothing)
        assert isinstance(refused, errors.Refused)
    left = [name for name in names if place.holds(name)]
    for name, answer in zip(left, delete(place, *map(place.url, left)), strict=True):
        # The store may have begun with others, and gone on meanwhile.
        expected = Deleted if name == "bad" else Deleted | errors.Gone
        assert isinstance(answer, expected), name
    assert not any(map(place.holds, names))


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
