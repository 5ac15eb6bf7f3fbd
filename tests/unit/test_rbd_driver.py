"""The rbd driver without a cluster: URLs, identities, what Ceph's errors mean."""

import errno
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.fake_source import FakeGlance, FakeSource
from contract.sections import section
from scrubber import errors
from scrubber.health import Health
from scrubber.live import LiveReferences
from scrubber.model import Target
from scrubber.planning.due import Ages
from scrubber.store_state import StoreState
from scrubber.stores import base
from scrubber.stores.rbd import RbdDriver
from scrubber.stores.registry import Stores
from scrubber.work import Piece
from unit.fake_ceph_modules import FSID, FakeCeph

OTHER = "99999999-2222-3333-4444-555555555555"


@pytest.fixture
def ceph(monkeypatch: pytest.MonkeyPatch) -> FakeCeph:
    ceph = FakeCeph()
    ceph.install(monkeypatch)
    return ceph


def made(**options: Any) -> RbdDriver:
    return RbdDriver(section(RbdDriver, store="ceph", **options))


@pytest.fixture
def driver(ceph: FakeCeph) -> Iterator[RbdDriver]:
    driver = made(scrub_also_in=["a/b"])
    driver.resolve()
    yield driver
    driver.close()


def identity(pool: str, image: str, fsid: str = FSID) -> str:
    return f"rbd:{fsid}/{pool}/{image}"


def mentioned(driver: RbdDriver, url: str) -> set[str]:
    [readings] = driver.mentions([url])
    return set(readings)


# URLs -----------------------------------------------------------------------------------------

ACCEPTED = [
    # URL, pool and image as the identity has them
    (f"rbd://{FSID}/images/a/snap", "images", "a"),
    (f"rbd://{FSID.upper()}/images/a/snap", "images", "a"),
    (f"rbd://{FSID}/images/%61/snap", "images", "a"),
    (f"rbd://{FSID}/%69mages/a/other", "images", "a"),
    (f"rbd://{FSID}/a%2fb/c%2Fd/snap", "a%2Fb", "c%2Fd"),  # a slash in a name
    (f"rbd://{FSID}/images/a%2561/snap", "images", "a%2561"),  # decoded once
    (f"rbd://{FSID}/images/a+b/snap", "images", "a%2Bb"),  # a plus is a plus
    (f"rbd://{FSID}/images/a?b#c/snap", "images", "a%3Fb%23c"),  # no query, no fragment
    ("rbd://a", "images", "a"),
    ("rbd://%61", "images", "%2561"),  # the short form is literal
    ("rbd://a?b#c", "images", "a%3Fb%23c"),
    ("rbd:// a", "images", "%20a"),
]


@pytest.mark.parametrize(("url", "pool", "image"), ACCEPTED)
def test_the_identity_is_that_of_the_object_glance_would_reach(
    driver: RbdDriver, url: str, pool: str, image: str
) -> None:
    assert driver.identify(url) == identity(pool, image)
    assert identity(pool, image) in mentioned(driver, url)


REFUSED = [
    f"rbd://{OTHER}/images/a/snap",
    f"rbd://{FSID}/volumes/a/snap",  # whatever the credentials reach
    f"rbd://{FSID}/IMAGES/a/snap",
    f"rbd://{FSID}/images/a",
    f"rbd://{FSID}/images/a/snap/more",
    f"rbd://{FSID}/images/a/",
    f"rbd://{FSID}/images//snap",
    f"rbd://{FSID}/images/a%00b/snap",  # C would read a
    f"rbd://{FSID}/images/a/snap%00",
    "rbd://a\0b",
    "rbd://a\ud800",
    "rbd://images/a",
    "rbd://a/",
    "rbd://",
    "rbd:a",
    "rbd:/a",
    "RBD://a",
    " rbd://a",
    "http://a",
    "",
]


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_no_image_of_this_store_is_refused(driver: RbdDriver, url: str) -> None:
    for ask in (driver.identify, driver.root):
        with pytest.raises(errors.Refused) as refused:
            ask(url)
        assert "rbd:" not in str(refused.value)
    driver.mentions([url])


@given(st.lists(st.text("ab%/:@\0é\ud8002fF", max_size=6), min_size=1, max_size=5))
def test_urls_mean_what_they_mean_to_glance_store(parts: list[str]) -> None:
    theirs = pytest.importorskip("glance_store._drivers.rbd")
    with pytest.MonkeyPatch.context() as patch:
        FakeCeph().install(patch)
        driver = made(scrub_also_in=["a", "b"])
    url = "rbd://" + "/".join(parts)
    location = theirs.StoreLocation({}, None)
    try:
        location.parse_uri(url)
    except Exception:
        with pytest.raises(errors.Refused):
            driver.identify(url)
        assert mentioned(driver, url) == set()
        return
    try:
        identified = driver.identify(url)
    except errors.Refused:
        strange = "\0" in "".join(map(unquote, parts)) or "\ud800" in url
        assert strange or (location.pool or "images") not in ("images", "a", "b")
        return
    fsid, pool = (location.fsid or "").lower(), location.pool or "images"
    assert identified == identity(quote(pool, ""), quote(location.image, ""), fsid)
    if not fsid:
        with pytest.raises(errors.Unavailable, match="to which cluster"):
            driver.mentions([url])  # before the cluster has said which it is
        return
    assert identified in mentioned(driver, url)


def test_a_live_url_of_another_cluster_guards_what_glance_reads_here(driver: RbdDriver) -> None:
    """glance_store never compares the fsid: it reads pool and image in its own cluster."""
    readings = mentioned(driver, f"rbd://{OTHER}/images/a/snap")
    assert {identity("images", "a"), identity("images", "a", OTHER)} <= readings


def test_a_live_url_in_any_pool_guards_its_image(driver: RbdDriver) -> None:
    assert identity("volumes", "a") in mentioned(driver, f"rbd://{FSID}/volumes/a/snap")


def test_without_its_cluster_a_store_still_names_what_urls_say(ceph: FakeCeph) -> None:
    driver = made()
    assert driver.identify(f"rbd://{FSID}/images/a/snap") == identity("images", "a")
    assert driver.identify(f"rbd://{FSID}/images/a/snap") in mentioned(
        driver, f"rbd://{FSID}/images/a/snap"
    )


def test_without_its_cluster_nobody_says_what_a_short_live_url_stands_for(ceph: FakeCeph) -> None:
    with pytest.raises(errors.Unavailable, match="which cluster"):
        mentioned(made(), "rbd://a")


@pytest.mark.parametrize("is_known", [True, False], ids=["cluster known", "cluster unknown"])
def test_a_short_live_url_guards_its_image_from_stores_that_may_delete_in_its_pool(
    ceph: FakeCeph, is_known: bool
) -> None:
    owner = RbdDriver(section(RbdDriver, store="owner", rbd_store_pool="images"))
    other = RbdDriver(
        section(RbdDriver, store="other", rbd_store_pool="other", scrub_also_in=["images"])
    )
    for driver in (owner, other) if is_known else (other,):
        driver.resolve()
    glance = FakeGlance()
    image = glance.add_image(status="active", deleted=False, deleted_at=None)
    glance.add_location(image, "rbd://a", store="owner", status="active", deleted_at=None)
    url = f"rbd://{FSID}/images/a/snap"
    pending = glance.add_location(glance.add_image(), url, store="other")
    live = LiveReferences(
        FakeSource(glance),
        Stores([owner, other], {}),
        tolerate=lambda: False,
        call_timeout=lambda: 5,
        ages=lambda: Ages(scrub_time=0, removed_location_age=3600),
    )
    live.load(1000)
    live.refresh()
    state = StoreState(other, Health(other))
    piece = Piece(glance.rows[pending].location, state, other.root(url), other.identify(url))
    assert bool(live.used([piece])) is is_known
    assert bool(live.hindrance(url)) is not is_known


def test_each_pool_is_a_root_of_its_own(driver: RbdDriver) -> None:
    assert driver.root(f"rbd://{FSID}/images/a/snap") == driver.root("rbd://b")
    assert driver.root("rbd://a") != driver.root(f"rbd://{FSID}/a%2Fb/a/snap")


# Configuration --------------------------------------------------------------------------------


def test_missing_modules_are_named_with_the_way_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rados", None)
    with pytest.raises(errors.ConfigError, match=r"\[ceph\].*python3-rbd.*system-site-packages"):
        made()


def test_options_need_no_ceph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rados", None)
    assert "rbd_store_pool" in {option.name for option in RbdDriver.options()}


def test_an_empty_pool_option_is_named(ceph: FakeCeph) -> None:
    with pytest.raises(errors.ConfigError, match="rbd_store_pool"):
        made(rbd_store_pool="")


@pytest.mark.parametrize(
    ("connect_timeout", "seconds"),
    [(-1, "15"), (0, "15"), (7, "7")],  # 0 is no time-out to Ceph
)
def test_no_operation_waits_for_ever(ceph: FakeCeph, connect_timeout: int, seconds: str) -> None:
    driver = made(rados_connect_timeout=connect_timeout)
    driver.probe()
    [settings] = ceph.settings
    for name in ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"):
        assert settings[name] == seconds


def test_a_user_and_a_file_are_passed_on_and_else_left_to_librados(ceph: FakeCeph) -> None:
    made(rbd_store_user="glance", rbd_store_ceph_conf="/etc/ceph/a.conf").probe()
    made().probe()
    assert [(at["rados_id"], at["conffile"]) for at in ceph.settings] == [
        ("glance", "/etc/ceph/a.conf"),
        (None, ""),
    ]


# What Ceph says -------------------------------------------------------------------------------

ANSWERS = [
    (errno.EBUSY, errors.InUse),
    (errno.ENOTEMPTY, errors.InUse),
    (errno.EMLINK, errors.InUse),
    (errno.EPERM, errors.Unavailable),
    (errno.EACCES, errors.Unavailable),
    (errno.ETIMEDOUT, errors.Unavailable),
    (errno.ESHUTDOWN, errors.Unavailable),
    (errno.ENOTCONN, errors.Unavailable),
    (errno.ENOSPC, errors.Unavailable),
    (errno.EDQUOT, errors.Unavailable),
    (errno.EROFS, errors.Failed),
    (errno.EINVAL, errors.Failed),
    (errno.EIO, errors.Failed),
    (4095, errors.Failed),
]


@pytest.mark.parametrize(("number", "answer"), ANSWERS)
def test_an_error_says_what_to_do_next_and_quotes_nothing(
    ceph: FakeCeph, driver: RbdDriver, number: int, answer: type[errors.StoreError]
) -> None:
    ceph.pools["a/b"] = 2
    driver.probe()
    ceph.fails["open"] = number
    first, second = driver.delete([Target("rbd://a"), Target("rbd://b")], base.always)
    assert type(first) is answer
    assert type(second) is answer
    assert "secret-name" not in str(first)
    assert "\n" not in str(first)


def test_an_error_without_a_name_shows_its_code(ceph: FakeCeph, driver: RbdDriver) -> None:
    ceph.pools["a/b"] = 2
    driver.probe()
    for number, shown in ((errno.EINVAL, "EINVAL"), (4095, "4095")):
        ceph.fails["open"] = number
        [answer] = driver.delete([Target("rbd://a")], base.always)
        assert shown in str(answer)


@pytest.mark.parametrize("what", ["configure", "connect", "read", "monitor"])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ETIMEDOUT, errno.EACCES, errno.EBUSY])
def test_whatever_a_probe_hears_concerns_the_whole_store(
    ceph: FakeCeph, what: str, number: int
) -> None:
    ceph.fails[what] = number
    driver = made()
    with pytest.raises(errors.Unavailable) as unavailable:
        driver.probe()
    assert "secret-name" not in str(unavailable.value)
    driver.close()
    assert ceph.open_connections == 0


@pytest.mark.parametrize(
    ("pools", "option"), [({}, "rbd_store_pool"), ({"images": 1}, "scrub_also")]
)
def test_a_missing_pool_is_said_with_its_option(
    ceph: FakeCeph, pools: dict[str, int], option: str
) -> None:
    ceph.pools = pools
    with pytest.raises(errors.Unavailable, match=rf"{option}.*\[ceph\]"):
        made(scrub_also_in=["backup"]).probe()


# The connection -------------------------------------------------------------------------------


def test_one_connection_serves_all_runs(ceph: FakeCeph) -> None:
    driver = made()
    for _ in range(3):
        driver.resolve()
        driver.probe()
        driver.delete([Target("rbd://a")], base.always)
    assert len(ceph.settings) == 1
    driver.close()
    assert ceph.open_connections == 0


def test_a_blocklisted_client_connects_anew_at_the_next_probe(
    ceph: FakeCeph, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = made()
    driver.probe()
    real = ceph.check

    def once(what: str, error: type[Exception]) -> None:
        real(what, error)
        if what == "connect":
            ceph.fails.clear()

    monkeypatch.setattr(ceph, "check", once)
    ceph.fails["read"] = errno.ESHUTDOWN
    driver.probe()
    assert len(ceph.settings) == 2
    assert ceph.open_connections == 1


def test_after_a_probe_in_vain_the_next_one_has_a_new_connection(ceph: FakeCeph) -> None:
    """The monitors may have moved: what is connected to the old ones never recovers."""
    driver = made()
    driver.probe()
    ceph.fails["monitor"] = errno.ETIMEDOUT
    with pytest.raises(errors.Unavailable):
        driver.probe()
    ceph.fails.clear()
    driver.probe()
    assert len(ceph.settings) == 2
    assert ceph.open_connections == 1


def test_what_is_missing_from_a_pool_that_went_is_not_gone(
    ceph: FakeCeph, driver: RbdDriver
) -> None:
    ceph.pools["a/b"] = 2
    driver.probe()
    [gone] = driver.delete([Target("rbd://a")], base.always)
    assert isinstance(gone, errors.Gone)
    ceph.pools["images"] = 3
    [answer] = driver.delete([Target("rbd://a")], base.always)
    assert isinstance(answer, errors.Unavailable)
    with pytest.raises(errors.Unavailable):
        driver.look([Target("rbd://a")])


@pytest.mark.parametrize("holder", ["rbd_id.a", "a.rbd"])  # as newer and older images have it
def test_what_has_a_name_in_the_pool_is_not_gone(
    ceph: FakeCeph, driver: RbdDriver, holder: str
) -> None:
    """librbd says "not found" of an image of which only a part is missing."""
    ceph.pools["a/b"] = 2
    driver.probe()
    ceph.objects.add(holder)
    first, second = driver.delete([Target("rbd://a"), Target("rbd://b")], base.always)
    assert isinstance(first, errors.Failed)
    assert isinstance(second, errors.Gone)
    assert isinstance(driver.look([Target("rbd://a")])[0], errors.Failed)
