"""The glance-scrubber.conf that operators already have is read as it is."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from functional import program
from functional.cloud import Cloud
from functional.conftest import NewCloud
from lab.databases import Database
from lab.glance import render, store_options

KEY = "0123456789abcdef"


def write(file: Path, options: dict[str, dict[str, object]]) -> Path:
    file.write_text(render(options))
    return file


def test_a_file_with_every_option_that_operators_have(clouds: NewCloud, tmp_path: Path) -> None:
    cloud: Cloud = clouds(metadata_encryption_key=KEY)
    for store in cloud.data_directories:
        cloud.keep(store)
    young, old = cloud.deleted("fast"), cloud.deleted("slow")
    cloud.age(old, 1000)
    log = tmp_path / "log" / "scrubber.log"
    log.parent.mkdir()
    configuration = write(
        tmp_path / "glance-scrubber.conf",
        {
            "DEFAULT": {
                "scrub_time": 600,
                "scrub_pool_size": 10,
                "wakeup_time": 120,
                "daemon": False,
                "delayed_delete": True,
                "metadata_encryption_key": KEY,
                "enabled_backends": "fast:file, slow:file, web:http",
                "debug": True,
                "log_file": log.name,
                "log_dir": log.parent,
                "use_syslog": False,
                "use_stderr": False,
                "log_date_format": "%Y-%m-%d %H:%M:%S",
                "default_log_levels": "sqlalchemy=WARN,stevedore=WARN",
                # Of glance-api.conf, and none of ours.
                "workers": 4,
                "image_size_cap": 1099511627776,
            },
            "database": {
                "connection": cloud.glance.database.url,
                "backend": "sqlalchemy",
                "max_retries": 10,
                "retry_interval": 10,
                "max_pool_size": 5,
                "max_overflow": 50,
                "pool_timeout": 30,
                "connection_recycle_time": 3600,
                "mysql_sql_mode": "TRADITIONAL",
            },
            "glance_store": {"default_backend": "fast"},
            "fast": {
                "filesystem_store_datadir": cloud.data_directories["fast"],
                "store_description": "Fast: it costs",
                "filesystem_store_chunk_size": 65536,
            },
            "slow": {
                "filesystem_store_datadirs": f"{cloud.data_directories['slow']}:100",
                "filesystem_store_file_perm": 0,
            },
            "web": {"http_timeout": 5},
            "os_glance_staging_store": {"filesystem_store_datadir": tmp_path / "staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": tmp_path / "tasks"},
            "oslo_concurrency": {"lock_path": tmp_path / "locks"},
            "keystone_authtoken": {"www_authenticate_uri": "http://localhost:5000"},
        },
    )

    result = program.run(configuration)

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"slow": {"deleted": 1}}
    assert result.document["not_due"]["images"] == 1
    assert result.stderr == ""
    cloud.check_kept()
    cloud.check_scrubbed([old])
    assert cloud.file(young).exists()
    text = log.read_text()
    assert text
    assert "file://" not in text
    assert KEY not in text


SINGLE_STORE = {
    "as Glance documents it": {"stores": "file,http", "default_store": "file"},
    "by default": {},
    "by class": {
        "stores": "glance.store.filesystem.Store,glance.store.http.Store",
        "default_store": "file",
    },
    "by glance_store's class": {"stores": "glance_store._drivers.filesystem.Store"},
    "by its other name": {"stores": "filesystem, http", "default_store": "filesystem"},
}


@pytest.fixture
def single_store_cloud(clouds: NewCloud) -> Cloud:
    """A Glance of the time before several stores."""
    return clouds(single_store=True)


@pytest.mark.parametrize("options", SINGLE_STORE.values(), ids=SINGLE_STORE.keys())
def test_a_file_of_the_time_before_several_stores(
    single_store_cloud: Cloud, tmp_path: Path, options: dict[str, object]
) -> None:
    cloud = single_store_cloud
    cloud.keep()
    images = [cloud.deleted() for _ in range(3)]
    directory = cloud.data_directories["file"]
    configuration = write(
        tmp_path / "glance-scrubber.conf",
        {
            "DEFAULT": {"scrub_time": 0, "delayed_delete": True},
            "database": {"connection": cloud.glance.database.url},
            "glance_store": {**options, "filesystem_store_datadir": directory},
        },
    )

    result = program.run(configuration)

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"file": {"deleted": 3}}
    cloud.check_scrubbed(images)
    cloud.check_kept()


def test_single_store_images_after_the_move_to_several_stores(
    single_store_cloud: Cloud, tmp_path: Path
) -> None:
    cloud = single_store_cloud
    live, data = cloud.keep(), os.urandom(50)
    scrubbed, restored = cloud.deleted(), cloud.upload(data=data)
    cloud.glance.delete(restored)
    (tmp_path / "new").mkdir()
    several = store_options({"new": tmp_path / "new", "old": cloud.data_directories["file"]})
    configuration = write(
        tmp_path / "glance-scrubber.conf",
        {**several, "database": {"connection": cloud.glance.database.url}},
    )

    back = program.run(configuration, "--restore", restored)
    result = program.run(configuration)

    assert back.exit_status == 0, str(back)
    assert cloud.glance.download(restored) == data
    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"old": {"deleted": 1}}
    cloud.check_scrubbed([scrubbed])
    assert cloud.glance.download(live) == cloud.kept[live]


def test_several_data_directories_of_one_store(cloud: Cloud, tmp_path: Path) -> None:
    """filesystem_store_datadirs: an image lies in one of them."""
    disk = tmp_path / "disk"
    disk.mkdir()
    on_disk, in_fast = cloud.upload("slow"), cloud.deleted("fast")
    (disk / on_disk).write_bytes(b"on the other disk")
    cloud.staging.add_location(image_id=on_disk, url=f"file://{disk}/{on_disk}", store="fast")
    cloud.glance.delete(on_disk)
    options = render(
        {
            "DEFAULT": {"enabled_backends": "fast:file,slow:file"},
            "database": {"connection": cloud.glance.database.url},
            "slow": {"filesystem_store_datadir": cloud.data_directories["slow"]},
        }
    )
    configuration = tmp_path / "scrubber.conf"
    configuration.write_text(
        f"{options}\n"
        "[fast]\n"
        f"filesystem_store_datadirs = {cloud.data_directories['fast']}:200\n"
        f"filesystem_store_datadirs = {disk}\n"
    )

    result = program.run(configuration)

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"fast": {"deleted": 2}, "slow": {"deleted": 1}}
    assert not (disk / on_disk).exists()
    cloud.check_scrubbed([on_disk, in_fast])
    cloud.check_kept()


def test_the_database_of_something_else_is_refused(
    cloud: Cloud, new_database: Callable[..., Database]
) -> None:
    empty = new_database("sqlite", empty=True)
    Path(empty.url.removeprefix("sqlite:///")).touch()
    result = cloud.scrub(options={"database": {"connection": empty.url}})
    assert result.exit_status == 1, str(result)
    assert "is not Glance's" in result.document["error"]
