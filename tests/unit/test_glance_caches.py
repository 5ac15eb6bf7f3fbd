"""What is scrubbed goes from the caches of all API nodes."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from scrubber import config, errors, pool
from scrubber.glance import caches
from scrubber.glance.caches import Caches, open_caches
from scrubber.model import Outcome, Settled

PATIENCE = 10.0


class Node:
    """One API node's cache."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self.listed = 0
        self.closed = False
        self.trouble: errors.StoreError | None = None

    def cached(self) -> frozenset[str]:
        self.listed += 1
        if self.trouble:
            raise self.trouble
        return frozenset(self.held)

    def uncache(self, image_id: str) -> None:
        self.held.remove(image_id)
        if image_id == "pruned meanwhile":
            raise errors.Gone("404")

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "BATCH_SECONDS", 0.01)
    monkeypatch.setattr(caches, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def nodes() -> list[Node]:
    return [Node("a", "b", "live"), Node("b", "pruned meanwhile")]


@pytest.fixture
def all_caches(nodes: list[Node]) -> Iterator[Caches]:
    purging = Caches([(f"node {at}", node) for at, node in enumerate(nodes)])  # type: ignore[misc]
    yield purging
    purging.close(PATIENCE)


def until_empty(node: Node, *images: str) -> None:
    def wait() -> None:
        while node.held & set(images):
            pool.sleep(0.005)

    pool.within(PATIENCE, wait)


def test_what_is_scrubbed_goes_from_every_node_and_nothing_else_does(
    all_caches: Caches, nodes: list[Node]
) -> None:
    for image in ("a", "b", "pruned meanwhile", "never cached"):
        all_caches.scrubbed(image)
    until_empty(nodes[0], "a", "b")
    until_empty(nodes[1], "b", "pruned meanwhile")
    assert nodes[0].held == {"live"}
    # Together, since most images are in no cache.
    assert nodes[0].listed == 1


def test_what_is_scrubbed_while_a_node_is_asked_goes_as_well() -> None:
    class Slow(Node):
        def cached(self) -> frozenset[str]:
            held = super().cached()
            if self.listed == 1:
                self.held.add("b")
                purging.scrubbed("b")
            return held

    node = Slow("a")
    purging = Caches([("node", node)])  # type: ignore[list-item]
    purging.scrubbed("a")
    until_empty(node, "a", "b")
    purging.close(PATIENCE)


def test_only_what_is_done_counts(all_caches: Caches, nodes: list[Node]) -> None:
    def settled(image: str, outcome: Outcome) -> Settled:
        return Settled("run", image, None, "fast", 1, None, outcome, "", 0, 0.0)

    all_caches.settled([settled("a", Outcome.DELETED)])
    all_caches.settled([settled("b", Outcome.FAILED)])
    until_empty(nodes[0], "a")
    assert "b" in nodes[0].held


def test_a_node_that_fails_is_warned_of_once_and_purged_later(
    all_caches: Caches, nodes: list[Node], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scrubber.glance.caches")
    first, second = nodes
    first.trouble = errors.Unavailable("down")
    all_caches.scrubbed("b")
    until_empty(second, "b")

    def wait_for_a_second_try() -> None:
        while first.listed < 3:
            pool.sleep(0.005)

    pool.within(PATIENCE, wait_for_a_second_try)
    first.trouble = None
    until_empty(first, "b")
    pool.sleep(0.02)
    said = [record.message for record in caplog.records]
    assert [line for line in said if "not purged now" in line] == [
        "The image cache of node 0 is not purged now: down"
    ]
    assert "The image cache of node 0 is purged again." in said


def test_at_the_end_nothing_is_left_and_connections_are_given_back() -> None:
    node = Node("a")
    purging = Caches([("node", node)])  # type: ignore[list-item]
    purging.scrubbed("a")
    purging.close(PATIENCE)
    assert not node.held
    assert node.closed


def test_the_end_waits_for_no_node_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(Node):
        def cached(self) -> frozenset[str]:
            pool.sleep(3600)
            return frozenset()

    purging = Caches([("node", Hanging("a"))])  # type: ignore[list-item]
    purging.scrubbed("a")
    pool.sleep(0.05)
    purging.close(0.05)
    assert "The image cache of node is not purged" in caplog.text


def test_a_node_that_never_answers_costs_no_memory_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caches, "MOST_WAITING", 3)
    node = Node()
    node.trouble = errors.Unavailable("down")
    purging = Caches([("node", node)])  # type: ignore[list-item]
    for number in range(10):
        purging.scrubbed(str(number))
    assert len(purging._nodes[0].waiting) == 3
    purging.close(PATIENCE)


OPTIONS = [
    # section [glance]; how many nodes are asked
    ("", 1),
    ("cache_endpoints = http://a:9292,http://b:9292", 2),
]


@pytest.mark.parametrize(("text", "nodes"), OPTIONS)
def test_the_section_names_the_nodes(tmp_path: Path, text: str, nodes: int) -> None:
    file = tmp_path / "scrubber.conf"
    file.write_text(f"[glance]\nendpoint_override = http://glance:9292\n{text}\n")
    purging = open_caches(config.load(["--config-file", str(file)]))
    assert len(purging._nodes) == nodes
    purging.close(PATIENCE)
