"""What only files do: links, odd spellings of a path, directories that change."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from contract.file_store import file_driver
from contract.sections import section
from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Found, Target
from scrubber.stores import base
from scrubber.stores.file import FileDriver


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    return root


@pytest.fixture
def driver(root: Path) -> FileDriver:
    driver = file_driver(root)
    driver.probe()
    return driver


def delete(driver: FileDriver, url: str | Path) -> Answer:
    [answer] = delete_all(driver, url if isinstance(url, str) else f"file://{url}")
    return answer


def delete_all(driver: FileDriver, *urls: str) -> Answers:
    return driver.delete([Target(url) for url in urls], base.always)


def write(path: Path, content: bytes = b"bytes") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def mentioned(driver: FileDriver, url: str | Path) -> set[str]:
    [readings] = driver.mentions([url if isinstance(url, str) else f"file://{url}"])
    return set(readings)


# Which file a URL means ---------------------------------------------------------------------

SPELLINGS = [
    # what stands between the root and the name; all mean root/image
    "/",
    "//",
    "///",
    "/./",
    "/././",
    "/x/../",
    "/x/y/../../",
    "/x//..//./",
    "/../images/",
]


@pytest.mark.parametrize("between", SPELLINGS)
@pytest.mark.parametrize("prefix", ["file://", "filesystem://", "file://localhost"])
def test_odd_spellings_of_a_path_are_one_file(
    driver: FileDriver, root: Path, prefix: str, between: str
) -> None:
    image = write(root / "image", b"12345")
    plain, odd = f"file://{image}", f"{prefix}{root}{between}image"
    assert driver.identify(odd) == driver.identify(plain)
    assert driver.identify(plain) in mentioned(driver, odd)
    assert delete(driver, odd) == Deleted(5)
    assert not image.exists()


REFUSED = [
    # a URL whose {root} is the data directory
    "file://{root}",  # the directory itself
    "file://{root}/",
    "file://{root}/.",
    "file://{root}/..",
    "file://{root}/../outside",
    "file://{root}/x/../../outside",
    "file://{root}-other/image",  # a directory whose name begins alike
    "file://otherhost{root}/image",  # Glance would read a relative path
    "file://localhost:80{root}/image",
    "file://localhost@{root}/image",
    "file://user:password@localhost{root}/image",
    "file://images/image",  # relative
    "file://./images/image",
    "file:images/image",
    "file:{root}/image",
    "FILE://{root}/image",  # Glance itself refuses it
    "http://localhost{root}/image",
    "file://{root}/image?query",
    "file://{root}/image#fragment",
    "file://{root}/image\0",
    "{root}/image",
]


@pytest.mark.parametrize("template", REFUSED)
def test_what_is_no_file_below_the_data_directory_is_refused(
    driver: FileDriver, root: Path, template: str
) -> None:
    image = write(root / "image")
    outside = write(root.parent / "outside")
    other = write(root.parent / "images-other" / "image")
    url = template.format(root=root)
    with pytest.raises(errors.Refused):
        driver.identify(url)
    assert isinstance(delete(driver, url), errors.Refused)
    [look] = driver.look([Target(url)])
    assert isinstance(look, errors.Refused)
    assert image.exists()
    assert outside.exists()
    assert other.exists()


def test_percent_signs_are_part_of_the_name(driver: FileDriver, root: Path) -> None:
    """glance_store takes paths literally, so a%2Fb is not a/b, and both may exist."""
    literal, decoded = write(root / "a%2Fb"), write(root / "a" / "b")
    assert isinstance(delete(driver, literal), Deleted)
    assert not literal.exists()
    assert decoded.exists()


def test_a_live_url_with_percent_signs_guards_both_files_it_may_mean(
    driver: FileDriver, root: Path
) -> None:
    url = f"file://{root}/a%2Fb"
    assert {driver.identify(url), driver.identify(f"file://{root}/a/b")} <= mentioned(driver, url)


@pytest.mark.parametrize("tail", ["?query", "#fragment", "?a#b", "#a?b"])
def test_a_live_url_with_a_query_guards_the_file_that_glance_reads(
    driver: FileDriver, root: Path, tail: str
) -> None:
    assert driver.identify(f"file://{root}/image") in mentioned(
        driver, f"file://{root}/image{tail}"
    )


def test_a_name_too_long_for_the_file_system_stops_no_other(driver: FileDriver, root: Path) -> None:
    image = write(root / "image", b"1")
    urls = [f"file://{root}/{'a' * 300}", f"file://{root}/{'a/' * 3000}b", f"file://{image}"]
    *poison, last = delete_all(driver, *urls)
    assert last == Deleted(1)
    assert all(isinstance(answer, errors.Refused | errors.Gone) for answer in poison)


def test_a_name_no_file_system_can_encode_stops_no_other(driver: FileDriver, root: Path) -> None:
    image = write(root / "image", b"1")
    poison, last = delete_all(driver, f"file://{root}/\ud800", f"file://{image}")
    assert last == Deleted(1)
    assert isinstance(poison, errors.Refused | errors.Gone)


# Links and special files ----------------------------------------------------------------------


def test_a_symbolic_link_is_not_deleted_nor_what_it_points_to(
    driver: FileDriver, root: Path
) -> None:
    target = write(root.parent / "elsewhere")
    link = root / "link"
    link.symlink_to(target)
    assert isinstance(delete(driver, link), errors.Refused)
    assert link.is_symlink()
    assert target.exists()


def test_a_dangling_link_is_not_taken_as_gone(driver: FileDriver, root: Path) -> None:
    (root / "link").symlink_to(root / "nothing")
    assert isinstance(delete(driver, root / "link"), errors.Refused)


def test_a_link_inside_the_path_is_not_followed(driver: FileDriver, root: Path) -> None:
    target = write(root.parent / "elsewhere" / "image")
    (root / "folder").symlink_to(target.parent)
    assert isinstance(delete(driver, root / "folder" / "image"), errors.Refused)
    assert target.exists()


def test_a_link_inside_the_path_is_not_followed_even_within_the_store(
    driver: FileDriver, root: Path
) -> None:
    target = write(root / "folder" / "image")
    (root / "link").symlink_to(target.parent)
    assert isinstance(delete(driver, root / "link" / "image"), errors.Refused)
    assert target.exists()


def test_a_loop_of_links_is_refused(driver: FileDriver, root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")
    assert isinstance(delete(driver, root / "loop"), errors.Refused)
    assert isinstance(delete(driver, root / "loop" / "image"), errors.Refused)


def test_a_live_url_through_a_link_guards_the_file_behind_it(
    driver: FileDriver, root: Path
) -> None:
    image = write(root / "folder" / "image")
    (root / "link").symlink_to(image.parent)
    identity = driver.identify(f"file://{image}")
    assert identity in mentioned(driver, root / "link" / "image")
    assert identity in mentioned(driver, root / "link" / ".." / "folder" / "image")


def test_a_file_that_a_link_beside_it_leads_to_is_refused(driver: FileDriver, root: Path) -> None:
    """A live image may be read through that link, and its URL does not tell."""
    image = write(root / "image")
    (root / "link").symlink_to(image)
    driver.probe()
    assert isinstance(delete(driver, image), errors.Refused)
    assert image.exists()


def test_two_dots_after_a_link_guard_both_files_they_may_mean(
    driver: FileDriver, root: Path
) -> None:
    """A kernel follows the link before it goes up; a reader of URLs does not."""
    (root / "a" / "b").mkdir(parents=True)
    (root / "link").symlink_to(root / "a" / "b")
    url = f"file://{root}/link/../image"
    assert {driver.identify(f"file://{root}/image"), driver.identify(f"file://{root}/a/image")} <= (
        mentioned(driver, url)
    )


def test_a_data_directory_that_is_a_link_works_by_both_its_names(tmp_path: Path) -> None:
    real = tmp_path / "mnt"
    real.mkdir()
    link = tmp_path / "images"
    link.symlink_to(real)
    driver = file_driver(link)
    driver.resolve()
    driver.probe()
    first, second = write(real / "a", b"1"), write(real / "b", b"22")
    assert driver.identify(f"file://{link}/a") == driver.identify(f"file://{real}/a")
    assert driver.identify(f"file://{link}/a") in mentioned(driver, real / "a")
    assert driver.identify(f"file://{real}/a") in mentioned(driver, link / "a")
    assert delete(driver, link / "a") == Deleted(1)
    assert delete(driver, real / "b") == Deleted(2)
    assert not first.exists()
    assert not second.exists()


def test_a_link_to_the_data_directory_that_is_turned_elsewhere_is_not_followed(
    tmp_path: Path,
) -> None:
    """What was probed is used to the end of the run."""
    for name in ("old", "new"):
        write(tmp_path / name / "image")
    link = tmp_path / "images"
    link.symlink_to(tmp_path / "old")
    driver = file_driver(link)
    driver.resolve()
    driver.probe()
    link.unlink()
    link.symlink_to(tmp_path / "new")
    delete(driver, link / "image")
    assert (tmp_path / "new" / "image").exists()


def test_a_live_url_guards_the_file_behind_a_directory_that_has_not_said_what_it_is(
    root: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    image = f"file://{write(root / 'image')}"
    assert file_driver(root).identify(image) in mentioned(file_driver(link), link / "image")


def test_what_a_directory_said_before_counts_for_nothing_when_it_does_not_say_it_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    driver = file_driver(link)
    driver.resolve()
    link.unlink()
    link.symlink_to(root)

    def fail(_path: str) -> str:
        raise OSError(errno.EIO, "the server does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(os.path, "realpath", fail)
        with pytest.raises((OSError, errors.Unavailable)):
            driver.resolve()
    image = f"file://{write(root / 'image')}"
    assert file_driver(root).identify(image) in mentioned(driver, link / "image")


def test_a_known_directory_is_not_asked_for_again_in_a_run(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file system may hang by then, and other stores need not wait for it."""
    (root / "old").mkdir()
    driver = file_driver(root)
    driver.resolve()
    before = mentioned(driver, root / "old" / "image")

    def fail(_path: str) -> str:
        raise OSError(errno.EIO, "the server does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(os.path, "realpath", fail)
        assert mentioned(driver, root / "old" / "image") == before
    (root / "old").rmdir()
    (root / "old").symlink_to(tmp_path)
    driver.resolve()
    assert mentioned(driver, root / "old" / "image") == {f"{tmp_path}/image"}


def test_a_url_that_no_path_can_be_decoded_from_is_only_what_it_says(
    driver: FileDriver, root: Path
) -> None:
    assert mentioned(driver, root / "a%00b") == {driver.identify(f"file://{root}/a%00b")}


@pytest.mark.parametrize("call", ["open", "stat"])
def test_a_call_that_hung_before_the_delete_deletes_nothing_once_nobody_waits_for_it(
    driver: FileDriver, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Meanwhile the claim has lapsed, and the file may be that of a live image."""
    image = write(root / "image")
    really, has_hung = getattr(os, call), list[bool]()

    def hang(*arguments: Any, **options: Any) -> Any:
        if not has_hung:
            has_hung.append(True)
            image.unlink()
            write(image, b"live")
        return really(*arguments, **options)

    monkeypatch.setattr(os, call, hang)
    answers = driver.delete([Target(f"file://{image}")] * 2, lambda: not has_hung)
    assert [type(answer) for answer in answers] == [errors.NotSent] * 2
    assert image.read_bytes() == b"live"


def test_a_directory_is_refused(driver: FileDriver, root: Path) -> None:
    inside = write(root / "folder" / "image")
    assert isinstance(delete(driver, root / "folder"), errors.Refused)
    assert isinstance(delete(driver, f"file://{root}/folder/"), errors.Refused)
    assert inside.exists()


def test_a_file_in_the_path_is_refused(driver: FileDriver, root: Path) -> None:
    image = write(root / "image")
    assert isinstance(delete(driver, image / "more"), errors.Refused)
    assert image.exists()


def test_special_files_are_refused_without_opening_them(driver: FileDriver, root: Path) -> None:
    """Opening a FIFO waits for its other end for ever."""
    os.mkfifo(root / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(root / "socket"))
        assert isinstance(delete(driver, root / "fifo"), errors.Refused)
        assert isinstance(delete(driver, root / "socket"), errors.Refused)
        [look] = driver.look([Target(f"file://{root}/fifo")])
        assert isinstance(look, errors.Refused)


def test_a_hard_link_frees_bytes_only_with_the_last_name(driver: FileDriver, root: Path) -> None:
    image = write(root / "image", b"12345")
    (root / "other").hardlink_to(image)
    assert delete(driver, image) == Deleted(0)
    assert (root / "other").read_bytes() == b"12345"
    assert delete(driver, root / "other") == Deleted(5)


def test_hard_links_are_one_object(driver: FileDriver, root: Path) -> None:
    image = write(root / "image")
    (root / "other").hardlink_to(image)
    looks = driver.look([Target(f"file://{image}"), Target(f"file://{root}/other")])
    prints = {look.fingerprint for look in looks if isinstance(look, Found)}
    assert len(prints) == 1


def test_files_in_folders_of_the_store_are_deleted(driver: FileDriver, root: Path) -> None:
    image = write(root / "a" / "b" / "image", b"1")
    assert delete(driver, image) == Deleted(1)
    assert isinstance(delete(driver, root / "a" / "nothing" / "image"), errors.Gone)


def test_modification_times_are_utc(driver: FileDriver, root: Path) -> None:
    image = write(root / "image")
    os.utime(image, (86400, 86400))
    [look] = driver.look([Target(f"file://{image}")])
    assert isinstance(look, Found)
    assert look.modified_at.isoformat() == "1970-01-02T00:00:00"


# The data directory ---------------------------------------------------------------------------


def test_a_replaced_data_directory_is_unavailable_until_it_is_probed_again(root: Path) -> None:
    driver = file_driver(root)
    driver.probe()
    root.rename(root.with_name("old"))
    image = write(root / "image")
    answer = delete(driver, image)
    assert isinstance(answer, errors.Unavailable)
    assert "replaced" in str(answer)
    assert image.exists()
    driver.probe()
    assert isinstance(delete(driver, image), Deleted)


def test_a_data_directory_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    driver = file_driver(write(tmp_path / "images"))
    with pytest.raises(errors.Unavailable, match="images"):
        driver.probe()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300, 0o600])
def test_a_data_directory_without_permissions_is_unavailable(root: Path, mode: int) -> None:
    driver = file_driver(root)
    root.chmod(mode)
    try:
        with pytest.raises(errors.Unavailable, match=r"[pP]ermission"):
            driver.probe()
    finally:
        root.chmod(0o700)


def test_a_data_directory_that_may_not_be_written_is_unavailable(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = file_driver(root)
    monkeypatch.setattr("scrubber.stores.file.os.access", lambda _path, mode: not mode & os.W_OK)
    with pytest.raises(errors.Unavailable, match="permission"):
        driver.probe()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_folder_without_permissions_fails_alone(driver: FileDriver, root: Path) -> None:
    image, other = write(root / "folder" / "image"), write(root / "image", b"1")
    image.parent.chmod(0o500)
    try:
        answers = delete_all(driver, f"file://{image}", f"file://{other}")
    finally:
        image.parent.chmod(0o700)
    assert isinstance(answers[0], errors.Failed)
    assert answers[1] == Deleted(1)


KERNEL_SAYS = [
    # what unlink raises; what that means
    (PermissionError(1, "Operation not permitted"), errors.Failed),  # chattr +i
    (PermissionError(13, "Permission denied"), errors.Failed),
    (OSError(16, "Device or resource busy"), errors.Failed),
    (OSError(26, "Text file busy"), errors.Failed),
    (FileNotFoundError(2, "No such file or directory"), errors.Gone),  # somebody was faster
]

KERNEL_SAYS_OF_ALL = [
    OSError(5, "Input/output error"),
    OSError(30, "Read-only file system"),
    OSError(107, "Transport endpoint is not connected"),
    OSError(116, "Stale file handle"),
    OSError(24, "Too many open files"),
    OSError(110, "Connection timed out"),
]


@pytest.mark.parametrize(("error", "meaning"), KERNEL_SAYS)
def test_what_concerns_one_file_is_said_of_one_file(
    driver: FileDriver,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    meaning: type[errors.StoreError],
) -> None:
    write(root / "image")
    refuse_unlink(monkeypatch, error)
    answers = delete_all(driver, f"file://{root}/image", f"file://{root}/nothing")
    assert isinstance(answers[0], meaning)
    assert isinstance(answers[1], errors.Gone)


@pytest.mark.parametrize("error", KERNEL_SAYS_OF_ALL, ids=lambda error: error.strerror)
def test_what_concerns_the_file_system_makes_the_store_unavailable(
    driver: FileDriver, root: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    first, second = write(root / "1"), write(root / "2")
    refuse_unlink(monkeypatch, error)
    answers = delete_all(driver, f"file://{root}/nothing", f"file://{first}", f"file://{second}")
    assert isinstance(answers[0], errors.Gone)
    for answer in answers[1:]:
        assert isinstance(answer, errors.Unavailable)
        assert error.strerror in str(answer)


def refuse_unlink(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def unlink(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("scrubber.stores.file.os.unlink", unlink)


def test_no_descriptor_is_left_open(driver: FileDriver, root: Path) -> None:
    write(root / "a" / "image")
    os.mkfifo(root / "fifo")
    urls = [f"file://{root}/{name}" for name in ("a/image", "nothing", "a/b/c", "fifo", "../x")]
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        delete_all(driver, *urls)
        driver.look([Target(url) for url in urls])
        driver.probe()
    assert set(os.listdir("/proc/self/fd")) == before


def test_files_are_found_in_each_of_several_data_directories(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("one", "two", "three")]
    images = [write(root / "image", b"x" * size) for size, root in enumerate(roots)]
    driver = file_driver(None, f"{roots[0]}:100", f"{roots[1]}:200", str(roots[2]))
    driver.probe()
    assert [delete(driver, image) for image in images] == [Deleted(0), Deleted(1), Deleted(2)]
    assert isinstance(delete(driver, tmp_path / "four" / "image"), errors.Refused)


def test_one_missing_data_directory_of_several_makes_the_store_unavailable(
    tmp_path: Path,
) -> None:
    write(tmp_path / "one" / "image")
    driver = file_driver(None, f"{tmp_path}/one", f"{tmp_path}/two")
    with pytest.raises(errors.Unavailable, match="two"):
        driver.probe()


def test_one_empty_data_directory_of_several_is_not_vouched_for(tmp_path: Path) -> None:
    write(tmp_path / "one" / "image")
    (tmp_path / "two").mkdir()
    driver = file_driver(None, f"{tmp_path}/one", f"{tmp_path}/two")
    driver.probe()
    assert driver.holds_something(f"{tmp_path}/one")
    assert not driver.holds_something(f"{tmp_path}/two")


def test_a_data_directory_inside_another_gives_a_file_one_identity(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    image = write(inner / "image")
    one, other = file_driver(tmp_path / "outer"), file_driver(inner, store="slow")
    assert one.identify(f"file://{image}") == other.identify(f"file://{image}")


@pytest.mark.parametrize("slashes", ["/", "//", "/.", "/../images"])
def test_an_oddly_written_data_directory_is_the_plain_one(root: Path, slashes: str) -> None:
    driver = file_driver(f"{root}{slashes}")
    driver.probe()
    image = write(root / "image", b"1")
    assert delete(driver, image) == Deleted(1)


# Space ----------------------------------------------------------------------------------------


def watching(root: Path, watermark: str) -> FileDriver:
    options = {"filesystem_store_datadir": str(root), "scrub_free_space": watermark}
    return FileDriver(section(FileDriver, **options))


def test_nobody_looks_for_space_unless_an_operator_wants_it(driver: FileDriver) -> None:
    assert driver.space_watch() is None


@pytest.mark.parametrize(
    ("watermark", "short"), [("100%", True), ("0%", False), ("1000000TiB", True), ("1", False)]
)
def test_space_is_short_when_less_is_free_than_the_watermark(
    root: Path, watermark: str, short: bool
) -> None:
    watch = watching(root, watermark).space_watch()
    assert watch is not None
    assert watch() is short


def test_a_directory_that_is_away_does_not_say_how_much_is_free(root: Path) -> None:
    watch = watching(root, "10%").space_watch()
    assert watch is not None
    root.rmdir()
    with pytest.raises(errors.Unavailable, match=str(root)):
        watch()
