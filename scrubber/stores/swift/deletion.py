"""The deletes of one call: what is there first, then plain objects together, large ones alone."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Target
from scrubber.stores import base
from scrubber.stores.swift import session
from scrubber.stores.swift.large import LargeObject, whole_of
from scrubber.stores.swift.web import ServerTrouble

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Object:
    """What a URL reaches, and through which reference."""

    reference: str
    container: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.container}/{self.name}"


class Call:
    """One call to a store: whether a container is there is asked once in it.

    Swift answers 404 to an object whether it or its container is missing, and 503 whether
    this object or all of them are out of reach.

    :param accounts: by reference.
    :param roots: containers without which the store is not what we think.
    """

    def __init__(self, accounts: Mapping[str, session.Account], roots: Collection[str]) -> None:
        self._accounts = accounts
        self._roots = roots
        self._there: set[tuple[str, str]] = set()

    def account(self, at: Object) -> session.Account:
        return self._accounts[at.reference]

    def head(self, at: Object) -> Mapping[str, str]:
        """:raises Gone: it is not there, and its container is."""
        account = self.account(at)
        return self.judged(at, lambda: account.request("HEAD", at.container, at.name).headers)

    def judged(self, at: Object, ask: Callable[[], T]) -> T:
        """What asking for an object brings; errors that say whether they are its own."""
        try:
            return ask()
        except errors.StoreError as error:
            raise self.judge(at, error) from None

    def judge(self, at: Object, error: errors.StoreError) -> errors.StoreError:
        """What an error means once it is known whether the container is there."""
        if not isinstance(error, errors.Gone | ServerTrouble):
            return error
        root = (at.reference, at.container)
        if root in self._there and isinstance(error, errors.Gone):
            return error
        account = self.account(at)
        try:
            account.request("HEAD", at.container)
        except errors.Gone:
            missing = f"{account.where}: there is no container {at.container}"
            is_root = at.container in self._roots
            return errors.Unavailable(missing) if is_root else errors.Failed(missing)
        except ServerTrouble as trouble:
            return errors.Unavailable(f"{account.where}: {trouble}")
        except errors.StoreError as other:
            return other
        self._there.add(root)
        return error


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A plain object that was found, and its places in the call: one, or more if it is named so."""

    at: Object
    size: int
    places: list[int]


class Deletion:
    """One ``delete`` of a driver.

    :param find: what a URL reaches; raises Refused.
    :param patience: seconds that one request may take; claims last for so long at least.
    """

    def __init__(
        self,
        call: Call,
        find: Callable[[str], Object],
        proceed: Callable[[], bool],
        patience: float,
    ) -> None:
        self._call = call
        self._find = find
        self._proceed = proceed
        self._claimed_until = time.monotonic() + patience
        self._answers: dict[int, Answer] = {}
        self._waiting: dict[str, dict[str, _Waiting]] = {}

    def answers(self, targets: Sequence[Target]) -> Answers:
        rest: errors.StoreError = errors.NotSent("not sent")
        for place, target in enumerate(targets):
            if not self._proceed():
                break
            try:
                self._begin(place, self._find(target.url))
            except errors.Unavailable as unavailable:
                rest = unavailable
                break
            except errors.StoreError as error:
                self._answers[place] = error
        # What was looked at is sent even now: else a slow store would get nowhere.
        for waiting in self._waiting.values():
            self._send(waiting)
        return [self._answers.get(place, rest) for place in range(len(targets))]

    def _begin(self, place: int, at: Object) -> None:
        waiting = self._waiting.setdefault(at.reference, {})
        if same := waiting.get(at.path):
            same.places.append(place)
            return
        headers = self._call.head(at)
        self._see_that_it_is_no_part(at)
        if (manifest := headers.get("x-object-manifest")) is not None:
            freed = self._call.judged(at, lambda: self._large(at).delete_dynamic(manifest))
            self._answers[place] = Deleted(freed)
        elif is_static(headers):
            freed = self._call.judged(at, self._large(at).delete_static)
            self._answers[place] = Deleted(freed)
        else:
            waiting[at.path] = _Waiting(at, number(headers.get("content-length")), [place])
            if len(waiting) >= self._call.account(at).bulk:
                del self._waiting[at.reference]
                self._send(waiting)

    def _see_that_it_is_no_part(self, at: Object) -> None:
        """A location may name a segment: no live URL does, yet a live image may be made of it.

        :raises InUse: the large object that it is a part of is there.
        """
        if (whole := whole_of(at.name)) is None:
            return
        try:
            headers = self._call.head(Object(at.reference, at.container, whole))
        except errors.Gone:
            return
        if is_large(headers):
            raise errors.InUse("it is a segment of a large object that is there")

    def _large(self, at: Object) -> LargeObject:
        return LargeObject(self._call.account(at), at.container, at.name, self._proceed)

    def _send(self, waiting: Mapping[str, _Waiting]) -> None:
        """Delete the plain objects of one account, and note what became of each."""
        if time.monotonic() > self._claimed_until:
            return  # this process was paused: they may be somebody else's by now
        failed: Mapping[str, errors.StoreError] = {}
        try:
            if len(waiting) == 1:
                (only,) = waiting.values()
                self._call.account(only.at).request("DELETE", only.at.container, only.at.name)
            elif waiting:
                account = self._call.account(next(iter(waiting.values())).at)
                failed = session.bulk_delete(account, list(waiting)).failed
        except errors.StoreError as error:
            failed = dict.fromkeys(waiting, error)
        for path, entry in waiting.items():
            answer: Answer = Deleted(entry.size)
            if path in failed:
                answer = self._call.judge(entry.at, failed[path])
            first, *others = entry.places
            self._answers[first] = answer
            for place in others:
                self._answers[place] = base.Gone() if isinstance(answer, Deleted) else answer


def is_static(headers: Mapping[str, str]) -> bool:
    return headers.get("x-static-large-object", "").lower() == "true"


def is_large(headers: Mapping[str, str]) -> bool:
    """Whether that of which these are the headers is a manifest."""
    return "x-object-manifest" in headers or is_static(headers)


def number(header: str | None) -> int:
    return int(header) if header and header.isdigit() else 0
