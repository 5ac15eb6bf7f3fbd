"""Images in a real Ceph: clones, watchers, deletes that were cut off, a cluster in trouble."""

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.ceph import Ceph
from lab.ceph_pools import SNAPSHOT, CephPool
from lab.processes import wait_until
from scrubber import errors
from scrubber.model import Answer, Deleted, Found, Look, Target, Trashed
from scrubber.stores import base
from scrubber.stores.rbd import RbdDriver

TICKER = Path(__file__).with_name("rbd_ticker.py")


@pytest.fixture
def new_driver(pool: CephPool) -> Iterator[Callable[..., RbdDriver]]:
    """Makes drivers of the pool, not yet probed."""
    with ExitStack() as stack:

        def make(**options: Any) -> RbdDriver:
            driver = pool.driver(**options)
            stack.callback(driver.close)
            return driver

        yield make


@pytest.fixture
def driver(new_driver: Callable[..., RbdDriver]) -> RbdDriver:
    driver = new_driver()
    driver.probe()
    return driver


@pytest.fixture
def trashing(new_driver: Callable[..., RbdDriver]) -> RbdDriver:
    """A driver that moves what clones still use to the trash."""
    driver = new_driver(scrub_trash_in_use=True)
    driver.probe()
    return driver


def delete(driver: RbdDriver, url: str) -> Answer:
    [answer] = driver.delete([Target(url)], base.always)
    return answer


def look(driver: RbdDriver, url: str) -> Look:
    [answer] = driver.look([Target(url)])
    return answer


def assert_whole(pool: CephPool, image: str = "a") -> None:
    """Glance can read it as ever."""
    assert pool.read(image) == b"bytes"
    assert pool.snapshots(image)[SNAPSHOT], "its snapshot is not protected any more"


def run_between(
    monkeypatch: pytest.MonkeyPatch, driver: RbdDriver, action: Callable[[], object]
) -> None:
    """Something happens after the driver has seen that nobody uses the image."""
    check = driver._check_unused

    def check_and_act(*arguments: Any) -> None:
        check(*arguments)
        action()

    monkeypatch.setattr(driver, "_check_unused", check_and_act)


# Who uses an image ----------------------------------------------------------------------------


@pytest.mark.parametrize("format", [1, 2])
def test_an_image_with_a_clone_waits_whole_and_goes_after_the_clone(
    pool: CephPool, driver: RbdDriver, format: int
) -> None:
    pool.put("a", data=b"bytes")
    pool.clone("a", "clone", format=format)

    answer = delete(driver, pool.url("a"))
    assert isinstance(answer, errors.InUse)
    assert "clones of it exist: at least 1" in str(answer)
    assert_whole(pool)

    pool.remove("clone")
    assert delete(driver, pool.url("a")) == Deleted(5)
    assert pool.images == set()
    assert pool.trash == {}


def test_a_clone_in_the_trash_is_a_clone(pool: CephPool, driver: RbdDriver) -> None:
    """It can be restored, and is nothing without its parent."""
    pool.put("a", data=b"bytes")
    pool.clone("a", "clone")
    with pool.opened() as opened:
        pool.rbd.RBD().trash_move(opened, "clone", 0)
    assert isinstance(delete(driver, pool.url("a")), errors.InUse)
    assert_whole(pool)


def test_an_image_that_is_open_elsewhere_waits_whole(pool: CephPool, driver: RbdDriver) -> None:
    pool.put("a", data=b"bytes")
    with pool.image("a") as image:
        before = list(image.list_snaps())
        answer = delete(driver, pool.url("a"))
        assert isinstance(answer, errors.InUse)
        assert list(image.list_snaps()) == before, "taken away and put back"
        assert_whole(pool)
    assert delete(driver, pool.url("a")) == Deleted(5)


def test_a_snapshot_of_somebody_else_is_never_touched(pool: CephPool, driver: RbdDriver) -> None:
    pool.put("a", data=b"bytes")
    with pool.image("a") as image:
        image.create_snap("backup")
    assert isinstance(delete(driver, pool.url("a")), errors.InUse)
    # The short form names no snapshot, so each of them is somebody's.
    assert isinstance(delete(driver, "rbd://a"), errors.InUse)
    assert isinstance(delete(driver, pool.url("a", snapshot="backup")), errors.InUse)
    assert pool.snapshots("a") == {SNAPSHOT: True, "backup": False}
    assert_whole(pool)


def test_a_member_of_a_consistency_group_waits_whole(pool: CephPool, driver: RbdDriver) -> None:
    pool.put("a", data=b"bytes")
    with pool.opened() as opened:
        pool.rbd.RBD().group_create(opened, "group")
        pool.rbd.Group(opened, "group").add_image(opened, "a")
    assert isinstance(delete(driver, pool.url("a")), errors.InUse)
    assert_whole(pool)


@pytest.mark.parametrize("trash", [False, True])
def test_who_comes_in_the_middle_of_a_delete_finds_the_image_whole(
    pool: CephPool,
    new_driver: Callable[..., RbdDriver],
    monkeypatch: pytest.MonkeyPatch,
    trash: bool,
) -> None:
    driver = new_driver(scrub_trash_in_use=trash)
    driver.probe()
    pool.put("a", data=b"bytes")
    with ExitStack() as stack:
        run_between(monkeypatch, driver, lambda: stack.enter_context(pool.image("a")))
        assert isinstance(delete(driver, pool.url("a")), errors.InUse)
        assert_whole(pool)


@pytest.mark.parametrize("format", [1, 2])
def test_a_clone_made_in_the_middle_of_a_delete_keeps_the_image_whole(
    pool: CephPool, driver: RbdDriver, monkeypatch: pytest.MonkeyPatch, format: int
) -> None:
    pool.put("a", data=b"bytes")
    run_between(monkeypatch, driver, lambda: pool.clone("a", "clone", format=format))
    assert isinstance(delete(driver, pool.url("a")), errors.InUse)
    assert_whole(pool)
    with pool.image("clone") as clone:
        assert clone.read(0, 5) == b"bytes"


def test_a_snapshot_made_in_the_middle_of_a_delete_goes_to_no_trash(
    pool: CephPool, trashing: RbdDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot() -> None:
        with pool.image("a") as image:
            image.create_snap("backup")

    pool.put("a", data=b"bytes")
    run_between(monkeypatch, trashing, snapshot)
    assert isinstance(delete(trashing, pool.url("a")), errors.InUse)
    assert pool.snapshots("a") == {SNAPSHOT: True, "backup": False}
    assert_whole(pool)


def test_librbd_shows_no_image_by_its_name(
    pool: CephPool, trashing: RbdDriver, capfd: pytest.CaptureFixture[str]
) -> None:
    """Left alone it writes what went wrong to standard error, names and all."""
    pool.put("a")
    pool.clone("a", "clone", format=1)
    capfd.readouterr()
    # Clones of format 1 are seen by librbd alone.
    assert isinstance(delete(trashing, pool.url("a")), errors.InUse)
    assert isinstance(delete(trashing, pool.url("nothing")), errors.Gone)
    assert capfd.readouterr().err == ""


# Deletes that were cut off --------------------------------------------------------------------


def test_a_snapshot_that_is_not_protected_is_no_obstacle(pool: CephPool, driver: RbdDriver) -> None:
    pool.put("a", 5)
    with pool.image("a") as image:
        image.unprotect_snap(SNAPSHOT)
    assert delete(driver, pool.url("a")) == Deleted(5)


def test_a_snapshot_that_is_gone_already_is_no_obstacle(pool: CephPool, driver: RbdDriver) -> None:
    pool.put("a", 5)
    pool.remove_snapshot("a")
    assert delete(driver, pool.url("a")) == Deleted(5)
    assert pool.images == set()


def test_a_snapshot_that_was_taken_from_an_image_in_use_is_put_back(
    pool: CephPool, driver: RbdDriver
) -> None:
    pool.put("a", data=b"bytes")
    pool.clone("a", "clone")
    pool.remove_snapshot("a")
    assert isinstance(delete(driver, pool.url("a")), errors.InUse)
    assert_whole(pool)
    pool.remove("clone")
    assert delete(driver, pool.url("a")) == Deleted(5)


def test_an_image_without_its_header_is_removed_from_the_pool(
    pool: CephPool, driver: RbdDriver
) -> None:
    pool.put("a", 5)
    with pool.opened() as opened, pool.image("a") as image:
        header = f"rbd_header.{image.id()}"
    with pool.opened() as opened:
        opened.remove_object(header)
    assert delete(driver, pool.url("a")) == Deleted(0)
    assert pool.images == set()
    assert isinstance(delete(driver, pool.url("a")), errors.Gone)


def test_a_removal_that_was_cut_off_is_finished(pool: CephPool, driver: RbdDriver) -> None:
    """librbd moves an image to the trash before it removes it."""
    pool.put("a", 5)
    pool.remove_snapshot("a")
    move_to_trash_as_if_removing(pool, "a")
    assert delete(driver, pool.url("a")) == Deleted(0)
    assert trash_entries(pool) == []
    assert isinstance(delete(driver, pool.url("a")), errors.Gone)


def move_to_trash_as_if_removing(pool: CephPool, image: str) -> None:
    import rados

    with pool.opened() as opened:
        pool.rbd.RBD().trash_move(opened, image, 0)
        [(key, value)] = trash_entries(pool)
        # After six bytes of header: why it is there.
        changed = value[:6] + b"\x03" + value[7:]
        with rados.WriteOpCtx() as write:
            opened.set_omap(write, (key,), (changed,))
            opened.operate_write_op(write, "rbd_trash")
    assert pool.trash == {}, "such entries are hidden from lists"


def trash_entries(pool: CephPool) -> list[tuple[str, bytes]]:
    """Of every sort, as Ceph keeps them."""
    import rados

    with pool.opened() as opened, rados.ReadOpCtx() as read:
        entries, _ = opened.get_omap_vals(read, "", "id_", 10)
        opened.operate_read_op(read, "rbd_trash")
        return list(entries)


# The trash ------------------------------------------------------------------------------------


def test_with_the_option_an_image_with_a_clone_goes_to_the_trash_and_can_come_back(
    pool: CephPool, trashing: RbdDriver
) -> None:
    pool.put("a", data=b"bytes")
    pool.clone("a", "clone")

    assert delete(trashing, pool.url("a")) == Trashed()
    assert pool.images == {"clone"}
    with pool.image("clone") as clone:
        assert clone.read(0, 5) == b"bytes"
    # Cut off before that was recorded: it frees nothing the second time either.
    assert delete(trashing, pool.url("a")) == Trashed()

    with pool.opened() as opened:
        pool.rbd.RBD().trash_restore(opened, pool.trash["a"], "a")
    with pool.image("a") as image:
        image.create_snap(SNAPSHOT)
    assert pool.read("a") == b"bytes"


def test_the_trash_can_be_emptied_once_the_clones_are_gone(
    pool: CephPool, trashing: RbdDriver
) -> None:
    pool.put("a", data=b"bytes")
    pool.clone("a", "clone")
    assert delete(trashing, pool.url("a")) == Trashed()
    pool.remove("clone")
    with pool.opened() as opened:
        pool.rbd.RBD().trash_remove(opened, pool.trash["a"])
    assert pool.trash == {}
    assert isinstance(delete(trashing, pool.url("a")), errors.Gone)


def test_a_clone_of_format_1_keeps_an_image_out_of_the_trash(
    pool: CephPool, trashing: RbdDriver
) -> None:
    """Its snapshot would stay, and no purge of the trash would ever free the space."""
    pool.put("a", data=b"bytes")
    pool.clone("a", "clone", format=1)
    assert isinstance(delete(trashing, pool.url("a")), errors.InUse)
    assert pool.trash == {}
    assert_whole(pool)


def test_with_the_option_an_image_that_nobody_uses_is_deleted(
    pool: CephPool, trashing: RbdDriver
) -> None:
    pool.put("a", 5)
    assert delete(trashing, pool.url("a")) == Deleted(5)
    assert pool.trash == {}


def test_a_move_to_the_trash_that_was_cut_off_is_finished(
    pool: CephPool, trashing: RbdDriver
) -> None:
    pool.put("a", data=b"bytes")
    pool.clone("a", "clone")
    pool.remove_snapshot("a")
    assert delete(trashing, pool.url("a")) == Trashed()
    assert set(pool.trash) == {"a"}


def test_where_ceph_keeps_what_is_removed_no_space_is_claimed(
    pool: CephPool, driver: RbdDriver
) -> None:
    pool.configure("rbd_move_to_trash_on_remove", "true")
    pool.put("a", 5)
    assert delete(driver, pool.url("a")) == Trashed()
    assert set(pool.trash) == {"a"}


# What is there --------------------------------------------------------------------------------


def test_a_look_tells_an_image_from_a_later_one_of_its_name(
    pool: CephPool, driver: RbdDriver
) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
    pool.put("a", 5)
    first = look(driver, pool.url("a"))
    assert delete(driver, pool.url("a")) == Deleted(5)
    pool.put("a", 5)
    second = look(driver, pool.url("a"))
    assert isinstance(first, Found)
    assert isinstance(second, Found)
    assert first.fingerprint != second.fingerprint
    after = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    assert first.modified_at is not None
    assert before <= first.modified_at <= after


def test_a_look_disturbs_nobody(pool: CephPool, driver: RbdDriver) -> None:
    pool.put("a", data=b"bytes")
    with pool.image("a") as writer:
        assert isinstance(look(driver, pool.url("a")), Found)
        assert len(list(writer.watchers_list())) == 1


def test_other_pools_are_deleted_from_only_where_an_option_names_them(
    ceph: Ceph, pool: CephPool, pool_names: Iterator[str], new_driver: Callable[..., RbdDriver]
) -> None:
    ceph.create_pool(name := next(pool_names))
    other = CephPool(ceph, name)
    other.put("a", 5)

    strict, wide = new_driver(), new_driver(scrub_also_in=[name])
    for driver in (strict, wide):
        driver.probe()
    assert isinstance(delete(strict, other.url("a")), errors.Refused)
    assert other.images == {"a"}
    assert delete(wide, other.url("a")) == Deleted(5)
    assert wide.root(other.url("a")) != wide.root(pool.url("a"))


# A cluster that is not what it should be ------------------------------------------------------


def test_a_wrong_pool_is_named(new_driver: Callable[..., RbdDriver]) -> None:
    with pytest.raises(errors.Unavailable, match="rbd_store_pool"):
        new_driver(rbd_store_pool="nothing").probe()


@pytest.mark.parametrize("content", [None, "[[nonsense", ""])
def test_a_wrong_ceph_conf_is_named(
    new_driver: Callable[..., RbdDriver], tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "ceph.conf"
    if content is not None:
        file.write_text(content)
    driver = new_driver(rbd_store_ceph_conf=str(file), rados_connect_timeout=1)
    for call in (driver.resolve, driver.probe):
        with pytest.raises(errors.Unavailable, match="rbd_store_ceph_conf"):
            call()


def test_a_user_without_a_keyring_is_named(new_driver: Callable[..., RbdDriver]) -> None:
    with pytest.raises(errors.Unavailable, match="rbd_store_user"):
        new_driver(rbd_store_user="nobody").probe()


PERMITTED = "profile rbd pool={}"


@pytest.mark.parametrize("format", [1, 2])
def test_a_clone_in_a_pool_that_glances_user_may_not_read_keeps_the_image_whole(
    ceph: Ceph,
    pool: CephPool,
    pool_names: Iterator[str],
    new_driver: Callable[..., RbdDriver],
    format: int,
) -> None:
    """As volumes are: it holds up its own image, not the store."""
    ceph.create_pool(volumes := next(pool_names))
    file = ceph.create_user(pool.name, mon="profile rbd", osd=PERMITTED.format(pool.name))
    options = {"rbd_store_user": pool.name, "rbd_store_ceph_conf": str(file)}
    driver, trashing = new_driver(**options), new_driver(**options, scrub_trash_in_use=True)
    driver.probe()
    trashing.probe()
    pool.put("a", data=b"bytes")
    pool.put("b", data=b"bytes")
    pool.clone("a", "clone", format=format, into=volumes)

    in_use, deleted = driver.delete([Target(pool.url("a")), Target(pool.url("b"))], base.always)
    assert isinstance(in_use, errors.InUse)
    assert "clones of it exist: at least 1" in str(in_use)
    assert deleted == Deleted(5)
    assert_whole(pool)

    answer = delete(trashing, pool.url("a"))
    assert isinstance(answer, errors.InUse if format == 1 else Trashed)


@pytest.mark.parametrize("permitted", ["profile rbd-read-only pool={}", "profile rbd pool=other"])
def test_a_user_who_may_not_delete_is_named_and_the_image_stays(
    ceph: Ceph, pool: CephPool, new_driver: Callable[..., RbdDriver], permitted: str
) -> None:
    pool.put("a", data=b"bytes")
    file = ceph.create_user(pool.name, mon="profile rbd", osd=permitted.format(pool.name))
    driver = new_driver(rbd_store_user=pool.name, rbd_store_ceph_conf=str(file))
    try:
        driver.probe()
    except errors.Unavailable as unavailable:
        answer: Answer = unavailable
    else:
        assert isinstance(look(driver, pool.url("a")), Found), "needs to read only"
        answer = delete(driver, pool.url("a"))
    assert isinstance(answer, errors.Unavailable)
    assert "rbd_store_user" in str(answer)
    assert_whole(pool)


def test_a_cluster_that_says_nothing_is_unavailable_and_back_when_it_is(
    ceph: Ceph, pool: CephPool, new_driver: Callable[..., RbdDriver]
) -> None:
    pool.put("a", 5)
    driver, fresh = (new_driver(rados_connect_timeout=1) for _ in range(2))
    driver.probe()
    with ceph.frozen("mon", "osd"):
        assert isinstance(delete(driver, pool.url("a")), errors.Unavailable)
        with pytest.raises(errors.Unavailable):
            driver.look([Target(pool.url("a"))])
        for one in (driver, fresh):
            with pytest.raises(errors.Unavailable, match="answer"):
                one.probe()
        fresh.close()
    driver.probe()

    def deleted() -> Answer | None:
        answer = delete(driver, pool.url("a"))
        return None if isinstance(answer, errors.InUse) else answer

    # What was cut off may have opened the image: Ceph believes in that for half a minute.
    assert wait_until(deleted, what="an image that nobody has open") == Deleted(5)


def test_a_full_cluster_is_emptied_or_says_that_it_cannot(
    ceph: Ceph, pool: CephPool, pool_names: Iterator[str], new_driver: Callable[..., RbdDriver]
) -> None:
    """Where nobody may write any more, deletes make room.

    Only in a pool that never had a trash librbd answers that it finds no such image.
    """
    ceph.create_pool(name := next(pool_names))
    fresh = CephPool(ceph, name)
    driver = new_driver(scrub_also_in=[name])
    driver.probe()
    pool.put("earlier")
    assert delete(driver, pool.url("earlier")) == Deleted(1)
    for at in (pool, fresh):
        at.put("a", data=bytes(4 << 20))

    with ceph.full():
        answer = delete(driver, fresh.url("a"))
        assert not isinstance(answer, errors.Gone | Deleted)
        assert fresh.images == {"a"}
        assert delete(driver, pool.url("a")) == Deleted(4 << 20)
        assert pool.images == set()
    assert delete(driver, fresh.url("a")) == Deleted(4 << 20)


def test_a_blocklisted_client_is_unavailable_until_the_next_probe(
    ceph: Ceph, pool: CephPool, driver: RbdDriver
) -> None:
    pool.put("a", 5)
    connection = driver._cluster._connected.connection
    ceph.command("osd blocklist", blocklistop="add", addr=connection.get_addrs())
    connection.wait_for_latest_osdmap()
    assert isinstance(delete(driver, pool.url("a")), errors.Unavailable)
    driver.probe()
    assert delete(driver, pool.url("a")) == Deleted(5)


def test_many_deletes_need_one_connection(
    pool: CephPool, new_driver: Callable[..., RbdDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    import rados

    connections = []

    class Counted(rados.Rados):
        def connect(self, *args: Any) -> None:
            connections.append(self)
            super().connect(*args)

    monkeypatch.setattr(rados, "Rados", Counted)
    for number in range(4):
        pool.put(f"a{number}")
    driver = new_driver()
    driver.resolve()
    driver.probe()
    targets = [Target(pool.url(f"a{number}")) for number in range(4)]
    assert driver.delete(targets, base.always) == [Deleted(1)] * 4
    driver.probe()
    assert len(connections) == 1


# Beside green threads -------------------------------------------------------------------------


def test_green_threads_go_on_while_ceph_is_silent_and_native_ones_work_in_parallel(
    ceph: Ceph, pool: CephPool
) -> None:
    for number in range(16):
        pool.put(f"a{number}")
    argv = [sys.executable, TICKER, ceph.configuration, pool.name]
    environment = {**os.environ, **ceph.environment}
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with ceph.frozen("osd"):
            child.stdin.write("delete\n")
            child.stdin.flush()
            # It goes on counting though none of its deletes comes back.
            assert child.stdout.readline() == "ticked\n"
        counts = json.loads(child.stdout.readline())
    assert child.returncode == 0
    assert counts == {"Deleted": 16}
    assert pool.images == set()
