"""The program on a real Glance whose images are in a real Swift."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from conftest import NewGlance, needed_programs
from functional import program
from functional.program import Result
from functional.rows import Tables
from lab.databases import Database
from lab.glance import Backend, Glance, glance_python
from lab.swift import OTHER, TESTER, USERS, Account, Swift
from lab.swift_stores import CONTAINER, reference, write_references
from scrubber.stores.swift import SwiftDriver

#: Glance's options count in MB: anything above is a large object in segments of that size.
LARGE = 1
MEGABYTE = 1024 * 1000


class Cloud:
    """A Glance whose default store is ``objects``, in Swift."""

    def __init__(self, glance: Glance) -> None:
        self.glance = glance
        self.tables = Tables(glance.database)

    def upload(self, data: bytes) -> str:
        return self.glance.upload(self.glance.admin, data, store="objects")

    def scrub(self, **section: object) -> Result:
        """One run with everything logged; it shows no secret."""
        options = {"scrubber": {"removed_location_age": 0}, "objects": section}
        configuration = self.glance.write_scrubber_configuration(
            self.glance.directory / "scrubber.conf", options
        )
        result = program.run(configuration, "--debug")
        for user in USERS:
            assert user.key not in result.stdout + result.stderr
        return result

    def statuses(self, *images: str) -> list[str]:
        return [str(self.tables.image(image)["status"]) for image in images]


def with_references(swift: Swift, file: Path) -> Mapping[str, object]:
    """As Glance's manual advises: rows hold no credentials."""
    write_references(file, {"ref1": reference(swift)})
    # Without the second, Glance 33 writes swift+config://None/ into its rows.
    return {"swift_store_config_file": file, "default_swift_reference": "ref1"}


def inline(swift: Swift, file: Path) -> Mapping[str, object]:
    """As many still have it: user and key are in every row."""
    return {
        "swift_store_auth_address": swift.auth_v3,
        "swift_store_user": TESTER.name,
        "swift_store_key": TESTER.key,
    }


@pytest.fixture(params=[with_references, inline])
def cloud(
    request: pytest.FixtureRequest,
    swift: Swift,
    account: Account,
    new_glance: NewGlance,
    sqlite_database: Database,
    tmp_path: Path,
) -> Iterator[Cloud]:
    options = {
        **request.param(swift, tmp_path / "references"),
        "swift_store_container": CONTAINER,
        "swift_store_large_object_size": LARGE,
        "swift_store_large_object_chunk_size": LARGE,
    }
    backends = {"objects": Backend("swift", options)}
    glance = new_glance(sqlite_database, {"fast": tmp_path / "fast"}, backends=backends)
    cloud = Cloud(glance)
    yield cloud
    cloud.tables.close()


def test_deleted_images_go_and_live_ones_stay(cloud: Cloud, account: Account) -> None:
    # glance_store 5.7.0 waits for ever for a last segment that is shorter than the others.
    large, small = b"x" * (3 * MEGABYTE), b"small"
    kept = {cloud.upload(data): data for data in (large, small)}
    before = account.names(CONTAINER)
    assert len(before) > len(kept), "no image is a large object"
    deleted = [cloud.upload(data) for data in (large, small, small)]
    for image in deleted:
        cloud.glance.delete(image)

    result = cloud.scrub()

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 3}), str(result)
    assert result.document["bytes_freed"] == len(large) + 2 * len(small)
    assert account.names(CONTAINER) == before
    assert cloud.statuses(*deleted) == ["deleted"] * 3
    for image, data in kept.items():
        assert cloud.glance.download(image) == data


def test_another_account_with_such_a_container_marks_nothing(
    cloud: Cloud, account: Account, swift: Swift, tmp_path: Path
) -> None:
    """It answers 404 to everything, and it is not the one that we think."""
    live = cloud.upload(b"live")
    deleted = [cloud.upload(b"deleted") for _ in range(3)]
    for image in deleted:
        cloud.glance.delete(image)
    before = cloud.tables.dump(), account.names(CONTAINER)
    other = swift.account(OTHER)
    other.create(CONTAINER)
    write_references(tmp_path / "other", {"ref1": reference(swift, OTHER)})

    result = cloud.scrub(swift_store_config_file=tmp_path / "other")

    assert result.exit_status == 3, str(result)
    # Rows with a user in them say that they are of another account; the others do not.
    (outcome,) = result.outcomes
    assert (outcome == "waiting") == (result.document["stopped_stores"] != {}), str(result)
    assert outcome in ("waiting", "refused")
    assert (cloud.tables.dump(), account.names(CONTAINER)) == before
    other.clear()
    other.close()

    assert cloud.scrub().outcomes == {"deleted": 3}
    assert account.names(CONTAINER) == [live]


OPTIONS_OF_GLANCE_STORE = """
import json
from glance_store._drivers.swift import store
found = {
    opt.name: [type(opt).__name__, opt.default, opt.secret]
    for opt in store.Store.OPTIONS
}
print(json.dumps(found))
"""


def test_options_are_those_of_glance_store() -> None:
    with needed_programs():
        python = glance_python()
    printed = subprocess.run(
        [python, "-P", "-W", "ignore", "-c", OPTIONS_OF_GLANCE_STORE],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    theirs = json.loads(printed)
    for opt in SwiftDriver.options():
        if not opt.name.startswith("scrub_"):
            assert theirs[opt.name] == [type(opt).__name__, opt.default, opt.secret], opt.name
