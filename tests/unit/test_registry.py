"""The stores that a configuration names, and which of them holds a location."""

from pathlib import Path

import pytest

from contract.fake_driver import FakeDriver
from contract.file_store import file_driver
from scrubber import config, errors
from scrubber.stores import registry
from scrubber.stores.file import FileDriver
from scrubber.stores.registry import Stores
from unit.values import a_location


def build(directory: Path, content: str) -> Stores:
    path = directory / "scrubber.conf"
    path.write_text(content.format(directory=directory))
    return registry.build(config.load(["--config-file", str(path)]))


def holds(stores: Stores, store: str, path: object) -> bool:
    """Whether the store would take this path for one of its own."""
    try:
        stores.drivers[store].identify(f"file://{path}")
    except errors.Refused:
        return False
    return True


def test_each_backend_gets_the_driver_and_the_section_of_its_own(tmp_path: Path) -> None:
    stores = build(
        tmp_path,
        "[DEFAULT]\nenabled_backends = fast:file, slow:file\n"
        "[fast]\nfilesystem_store_datadir = {directory}/fast\n"
        "[slow]\nfilesystem_store_datadir = {directory}/slow/\n"
        "[glance_store]\nfilesystem_store_datadir = {directory}/other\n",
    )
    assert stores.names == ["fast", "slow"]
    assert all(isinstance(driver, FileDriver) for driver in stores.drivers.values())
    assert holds(stores, "fast", tmp_path / "fast" / "image")
    assert not holds(stores, "fast", tmp_path / "slow" / "image")
    assert holds(stores, "slow", tmp_path / "slow" / "image")
    assert not holds(stores, "slow", tmp_path / "other" / "image")


@pytest.mark.parametrize("store", ["store", "image", "owner", "wait", "force", "workers"])
def test_a_store_may_have_the_name_of_a_word_of_the_command_line(
    tmp_path: Path, store: str
) -> None:
    path = tmp_path / "scrubber.conf"
    path.write_text(
        f"[DEFAULT]\nenabled_backends = {store}:file\n"
        f"[{store}]\nfilesystem_store_datadir = {tmp_path}\n"
    )
    words = ["--image", "1", "--store", store, "--owner", "2", "--workers", "3", "--wait", "4"]
    conf = config.load(["--config-file", str(path), *words])
    assert registry.build(conf).names == [store]
    assert (conf.cli_images, conf.cli_stores, conf.cli_owners) == (["1"], [store], ["2"])
    assert (config.workers(conf), conf.cli_wait, conf.cli_force) == (3, 4, False)
    assert registry.names(conf) == [store]


@pytest.mark.parametrize("store", ["debug", "scrub_time", "daemon"])
def test_a_store_that_hides_an_option_is_refused(tmp_path: Path, store: str) -> None:
    """Else what a later look at the option finds is the section."""
    content = f"[DEFAULT]\nenabled_backends = {store}:file\n[{store}]\n"
    with pytest.raises(errors.ConfigError, match=f"option {store} in section"):
        build(tmp_path, content)


SINGLE = [
    # [glance_store] stores; the stores that are left
    ("stores = file,http", ["file"]),
    ("", ["file"]),
    ("stores = glance.store.filesystem.Store, glance.store.http.Store", ["file"]),
    ("stores = glance_store._drivers.filesystem.Store", ["file"]),
    ("stores = filesystem", ["file"]),
    ("stores = file,rbd,swift", ["file", "rbd", "swift"]),
    ("stores = file,glance.store.rbd.Store", ["file", "rbd"]),
    ("stores = cinder", ["cinder"]),
]


@pytest.mark.parametrize(("line", "expected"), SINGLE)
def test_single_store_mode_reads_glance_store(
    tmp_path: Path, line: str, expected: list[str]
) -> None:
    stores = build(
        tmp_path, f"[glance_store]\n{line}\nfilesystem_store_datadir = {{directory}}/images\n"
    )
    assert stores.names == expected
    if "file" in expected:
        assert holds(stores, "file", tmp_path / "images" / "a")
        assert not holds(stores, "file", "/var/lib/glance/images/a")


def test_enabled_backends_make_single_store_mode_void(tmp_path: Path) -> None:
    stores = build(
        tmp_path,
        "[DEFAULT]\nenabled_backends = fast:file\n"
        "[fast]\nfilesystem_store_datadir = {directory}\n[glance_store]\nstores = rbd\n",
    )
    assert stores.names == ["fast"]


def test_without_a_data_directory_it_is_glances_own(tmp_path: Path) -> None:
    stores = build(tmp_path, "[DEFAULT]\nenabled_backends = fast:file\n")
    assert holds(stores, "fast", "/var/lib/glance/images/image")


def test_several_data_directories_lose_their_priorities(tmp_path: Path) -> None:
    stores = build(
        tmp_path,
        "[DEFAULT]\nenabled_backends = fast:file\n[fast]\n"
        "filesystem_store_datadirs = {directory}/one:100\n"
        "filesystem_store_datadirs = {directory}/two\n"
        "filesystem_store_datadirs = {directory}/with:colon:7\n"
        "filesystem_store_datadirs = {directory}/plain:colon\n",
    )
    for name in ("one", "two", "with:colon", "plain:colon"):
        assert holds(stores, "fast", tmp_path / name / "image"), name
    for name in ("one:100", "with", "plain"):
        assert not holds(stores, "fast", tmp_path / name / "image"), name


def test_a_data_directory_and_several_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        build(
            tmp_path,
            "[DEFAULT]\nenabled_backends = fast:file\n[fast]\n"
            "filesystem_store_datadir = {directory}/one\n"
            "filesystem_store_datadirs = {directory}/two\n",
        )
    for word in ("[fast]", "filesystem_store_datadir", "filesystem_store_datadirs"):
        assert word in str(refused.value)


def test_a_store_of_a_type_without_a_driver_is_listed_and_says_so(tmp_path: Path) -> None:
    stores = build(tmp_path, "[DEFAULT]\nenabled_backends = fast:file, block:sheepdog\n")
    assert stores.names == ["block", "fast"]
    assert stores.knows("block")
    assert not stores.knows("other")
    with pytest.raises(errors.Unsupported, match=r"block.*sheepdog"):
        stores.holder(a_location(store="block", url="sheepdog://volume"))


def test_what_a_stores_section_leaves_open_the_defaults_of_all_stores_say(tmp_path: Path) -> None:
    stores = build(
        tmp_path,
        "[DEFAULT]\nenabled_backends = fast:file, slow:file\n"
        "[backend_defaults]\nfilesystem_store_datadir = {directory}/all\n"
        "scrub_max_connections = 3\n"
        "[slow]\nfilesystem_store_datadir = {directory}/slow\nscrub_max_connections = 5\n",
    )
    assert holds(stores, "fast", tmp_path / "all" / "image")
    assert holds(stores, "slow", tmp_path / "slow" / "image")
    assert {name: driver.connections for name, driver in stores.drivers.items()} == {
        "fast": 3,
        "slow": 5,
    }


def test_a_message_about_a_stores_section_quotes_no_secret(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        build(
            tmp_path,
            "[DEFAULT]\nenabled_backends = block:cinder\n"
            "[block]\ncinder_store_password = planted$secret\n",
        )
    assert "cinder_store_password" in str(refused.value)
    assert "secret" not in str(refused.value).replace("cinder_store_password", "")


def test_web_servers_are_no_stores_of_ours(tmp_path: Path) -> None:
    stores = build(tmp_path, "[DEFAULT]\nenabled_backends = fast:file, web:http\n")
    assert stores.names == ["fast"]
    assert not stores.knows("web")


@pytest.mark.parametrize(
    "content", ["[DEFAULT]\nenabled_backends = web:http\n", "[glance_store]\nstores = http\n"]
)
def test_no_store_at_all_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(errors.ConfigError, match="enabled_backends"):
        build(tmp_path, content)


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    """Two file stores and one in memory; ``ceph`` has no driver."""
    return Stores(
        [
            file_driver(tmp_path / "fast"),
            file_driver(tmp_path / "slow", store="slow"),
            FakeDriver("memory"),
        ],
        {"ceph": "no driver for type rbd"},
    )


HOLDERS: list[tuple[str | None, str, str | type[errors.StoreError]]] = [
    # the store that a row names, its URL; who holds it
    ("fast", "file://{root}/fast/a", "fast"),
    ("memory", "fake://memory/a", "memory"),
    # Rows older than multiple stores, and renamed stores: whoever alone could have written it.
    (None, "file://{root}/slow/a", "slow"),
    ("renamed", "file://{root}/slow/a", "slow"),
    (None, "fake://memory/a", "memory"),
    # It names a store: no other one is asked, even if the URL is none of its own.
    ("fast", "file://{root}/slow/a", "fast"),
    # Nobody's.
    (None, "file:///elsewhere/a", errors.Refused),
    ("renamed", "fake://other/a", errors.Refused),
    (None, "rbd://fsid/pool/image/snap", errors.Refused),
    ("ceph", "rbd://fsid/pool/image/snap", errors.Unsupported),
    ("ceph", "file://{root}/fast/a", errors.Unsupported),
]


@pytest.mark.parametrize(("named", "url", "expected"), HOLDERS)
def test_which_store_holds_a_location(
    stores: Stores,
    tmp_path: Path,
    named: str | None,
    url: str,
    expected: str | type[errors.StoreError],
) -> None:
    location = a_location(store=named, url=url.format(root=tmp_path))
    if isinstance(expected, str):
        assert stores.holder(location).store == expected
        return
    with pytest.raises(expected) as refused:
        stores.holder(location)
    assert "://" not in str(refused.value)


def test_a_location_that_two_stores_could_hold_is_refused(tmp_path: Path) -> None:
    stores = Stores([file_driver(tmp_path), file_driver(tmp_path / "inner", store="slow")], {})
    location = a_location(store=None, url=f"file://{tmp_path}/inner/a")
    with pytest.raises(errors.Refused, match="several stores"):
        stores.holder(location)


def test_live_urls_are_read_by_their_own_store_or_by_one_of_its_family(
    stores: Stores, tmp_path: Path
) -> None:
    rows = [
        # its own store, or the first of the family
        ("slow", f"file://{tmp_path}/slow/a"),
        ("fast", f"file://{tmp_path}/slow/b"),
        (None, f"filesystem://{tmp_path}/slow/c"),
        ("renamed", "FILE:///d"),
        ("memory", "file:///e"),
        ("fast", "fake://memory/f"),
        # nobody
        ("ceph", "rbd://pool/g"),
        ("fast", ""),
    ]
    locations = [
        a_location(id=number, store=store, url=url) for number, (store, url) in enumerate(rows)
    ]
    read = {
        driver.store: [location.id for location in mine]
        for driver, mine in stores.readers(locations).items()
    }
    assert read == {"slow": [0], "fast": [1, 2, 3, 4], "memory": [5]}
