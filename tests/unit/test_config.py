"""Configuration files: read as operators have them, refused whole, reloaded while running."""

import os
from pathlib import Path

import pytest
from oslo_config import cfg

from scrubber import config, errors
from scrubber.options import (
    ADMIN_OPTS,
    CLI_OPTS,
    GLANCE_OPTS,
    GLANCE_STORE_OPTS,
    SCRUBBER_OPTS,
    STATE_OPTS,
    UPSTREAM_OPTS,
    list_opts,
)
from scrubber.stores import registry

GLANCE_SCRUBBER_CONF = """
[DEFAULT]
debug = false
use_stderr = true
log_file = {directory}/scrubber.log
log_dir = {directory}
default_log_levels = sqlalchemy=WARN,glance=INFO
scrub_time = 86400
scrub_pool_size = 10
wakeup_time = 600
daemon = true
delayed_delete = true
restore =
metadata_encryption_key = 0123456789abcdef
enabled_backends = fast:file, slow:file, ceph:rbd, web:http
admin_role = admin
registry_host = 0.0.0.0
scrubber_datadir = /var/lib/glance/scrubber

[glance_store]
default_backend = fast
stores = file,http
default_store = file
filesystem_store_datadir = /var/lib/glance/images/

[fast]
filesystem_store_datadir = {directory}/fast
filesystem_store_file_perm = 0
store_description = "Fast disks"

[slow]
filesystem_store_datadirs = {directory}/slow1:100
filesystem_store_datadirs = {directory}/slow2:200

[ceph]
rbd_store_pool = images
rbd_store_user = glance
rbd_store_ceph_conf = /etc/ceph/ceph.conf

[os_glance_staging_store]
filesystem_store_datadir = {directory}/staging

[os_glance_tasks_store]
filesystem_store_datadir = {directory}/tasks

[database]
backend = sqlalchemy
connection = mysql+pymysql://glance:secret@controller/glance
slave_connection = mysql+pymysql://glance:secret@replica/glance
max_pool_size = 5
max_overflow = 10
max_retries = -1
connection_recycle_time = 3600
pool_timeout = 30
mysql_sql_mode = TRADITIONAL

[oslo_concurrency]
lock_path = /var/lock/glance

[keystone_authtoken]
auth_url = http://controller:5000
"""


def write(directory: Path, content: str) -> list[str]:
    """A configuration file, as the command line that reads it."""
    path = directory / "scrubber.conf"
    path.write_text(content)
    return ["--config-file", str(path)]


def test_an_operators_glance_scrubber_conf_is_read_as_it_is(tmp_path: Path) -> None:
    conf = config.load(write(tmp_path, GLANCE_SCRUBBER_CONF.format(directory=tmp_path)))
    assert conf.scrub_time == 86400
    assert conf.scrub_pool_size == 10
    assert conf.wakeup_time == 600
    assert conf.daemon is True
    assert conf.delayed_delete is True
    assert not conf.restore
    assert conf.metadata_encryption_key == "0123456789abcdef"
    assert conf.enabled_backends == {"fast": "file", "slow": "file", "ceph": "rbd", "web": "http"}
    assert conf.glance_store.stores == ["file", "http"]
    assert conf.database.connection == "mysql+pymysql://glance:secret@controller/glance"
    assert conf.database.max_pool_size == 5


def test_upstreams_defaults_hold_without_a_file() -> None:
    conf = config.load([])
    assert conf.scrub_time == 0
    assert conf.wakeup_time == 300
    assert conf.daemon is False
    assert conf.scrubber.claim_lease > conf.scrubber.call_timeout


BAD_FILES = [
    # a file; what the message names
    ("[DEFAULT]\nscrub_time = soon\n", ["scrub_time", "[DEFAULT]", "soon"]),
    ("[DEFAULT]\nscrub_time = -1\n", ["scrub_time", "[DEFAULT]"]),
    ("[DEFAULT]\nscrub_time = 1.5\n", ["scrub_time", "[DEFAULT]"]),
    ("[DEFAULT]\nscrub_time =\n", ["scrub_time", "[DEFAULT]"]),
    ("[DEFAULT]\nscrub_pool_size = 0\n", ["scrub_pool_size", "[DEFAULT]"]),
    ("[DEFAULT]\nscrub_pool_size = 5000\n", ["scrub_pool_size", "[DEFAULT]"]),
    ("[DEFAULT]\nwakeup_time = -5\n", ["wakeup_time", "[DEFAULT]"]),
    ("[DEFAULT]\ndaemon = maybe\n", ["daemon", "[DEFAULT]", "maybe"]),
    ("[DEFAULT]\nenabled_backends = fast\n", ["enabled_backends", "[DEFAULT]"]),
    ("[scrubber]\nscrub_window = 22-6\n", ["scrub_window", "[scrubber]", "22:00-06:00"]),
    ("[scrubber]\nscrub_window = 22:00-06:00 X\n", ["scrub_window", "[scrubber]", "time zone"]),
    ("[scrubber]\ntrigger_bytes = much\n", ["trigger_bytes", "[scrubber]", "much"]),
    ("[DEFAULT]\ndebug = maybe\n", ["debug", "[DEFAULT]", "maybe"]),
    ("[DEFAULT]\nrate_limit_interval = x\n", ["rate_limit_interval", "[DEFAULT]"]),
    ("[scrubber]\nclaim_lease =\n", ["claim_lease", "[scrubber]"]),
    ("[scrubber]\nclaim_lease = 5\n", ["claim_lease", "[scrubber]"]),
    ("[scrubber]\npage_size = 0\n", ["page_size", "[scrubber]"]),
    ("[scrubber]\npage_size = 100000\n", ["page_size", "[scrubber]"]),
    ("[scrubber]\nmissing_threshold_percent = 101\n", ["missing_threshold_percent", "[scrubber]"]),
    ("[scrubber]\nretry_base = 0\n", ["retry_base", "[scrubber]"]),
    ("[scrubber]\nretry_cap = -1\n", ["retry_cap", "[scrubber]"]),
    ("[scrubber]\nretry_attempts = 0\n", ["retry_attempts", "[scrubber]"]),
    ("[state]\nrequired = perhaps\n", ["required", "[state]", "perhaps"]),
    ("[scrubber]\nunreadable_live = perhaps\n", ["unreadable_live", "[scrubber]", "perhaps"]),
    ("[database]\nmax_pool_size = many\n", ["max_pool_size", "[database]", "many"]),
    ("[database]\nconnection_recycle_time = x\n", ["connection_recycle_time", "[database]"]),
]


@pytest.mark.parametrize(("content", "named"), BAD_FILES, ids=str)
def test_a_bad_value_is_refused_with_file_section_and_option(
    tmp_path: Path, content: str, named: list[str]
) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        config.load(write(tmp_path, content))
    message = str(refused.value)
    assert "\n" not in message
    assert "LocationInfo" not in message
    for word in [*named, str(tmp_path / "scrubber.conf")]:
        assert word in message


LIMITS = [
    # call_timeout, claim_lease; can it be used?
    (60, 300, True),
    (299, 300, True),
    (300, 300, False),
    (301, 300, False),
]


@pytest.mark.parametrize(("call_timeout", "claim_lease", "usable"), LIMITS)
def test_a_call_must_fit_into_a_claim(
    tmp_path: Path, call_timeout: int, claim_lease: int, usable: bool
) -> None:
    words = write(
        tmp_path, f"[scrubber]\ncall_timeout = {call_timeout}\nclaim_lease = {claim_lease}\n"
    )
    if usable:
        assert config.load(words).scrubber.call_timeout == call_timeout
        return
    with pytest.raises(errors.ConfigError, match=r"call_timeout.*\[scrubber\].*claim_lease"):
        config.load(words)


KEYS = [
    # a key; can Glance have encrypted with it?
    ("k" * 16, True),
    ("k" * 24, True),
    ("k" * 32, True),
    ("k" * 15, False),
    ("k" * 17, False),
    ("k" * 64, False),
    # Bytes count, not letters.
    ("ü" * 8, True),
    ("ü" * 16, True),
    ("ü" * 15, False),
]


@pytest.mark.parametrize(("key", "usable"), KEYS)
def test_a_key_has_one_of_the_lengths_of_aes(tmp_path: Path, key: str, usable: bool) -> None:
    words = write(tmp_path, f"[DEFAULT]\nmetadata_encryption_key = {key}\n")
    if usable:
        assert config.load(words).metadata_encryption_key == key
        return
    with pytest.raises(errors.ConfigError, match="metadata_encryption_key") as refused:
        config.load(words)
    assert key not in str(refused.value)


BAD_SYNTAX = [
    "metadata_encryption_key 0123secret\n",
    "[DEFAULT]\nmetadata_encryption_key 0123secret\n",
    "[DEFAULT\nmetadata_encryption_key = 0123secret\n",
    "[DEFAULT]\nmetadata_encryption_key it's 0123secret\n",
    '[DEFAULT]\nmetadata_encryption_key "it\'s" 0123secret\n',
    "  0123secret\n",
    " = 0123secret\n",
]


@pytest.mark.parametrize("content", BAD_SYNTAX)
def test_a_file_that_cannot_be_parsed_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        config.load(write(tmp_path, content))
    message = str(refused.value)
    assert "0123secret" not in message
    assert "\n" not in message
    assert str(tmp_path / "scrubber.conf") in message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scrubber.conf"
    path.write_bytes(b"[DEFAULT]\nscrub_time = \xff\xfe\n")
    with pytest.raises(errors.ConfigError) as refused:
        config.load(["--config-file", str(path)])
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"nothing\.conf"):
        config.load(["--config-file", str(tmp_path / "nothing.conf")])


def test_a_directory_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        config.load(["--config-file", str(tmp_path)])
    assert str(tmp_path) in str(refused.value)


def test_a_missing_directory_of_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"nothing\.d"):
        config.load(["--config-dir", str(tmp_path / "nothing.d")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    words = write(tmp_path, "[DEFAULT]\n")
    (tmp_path / "scrubber.conf").chmod(0)
    with pytest.raises(errors.ConfigError, match=r"permission.*scrubber\.conf"):
        config.load(words)


# Reload -----------------------------------------------------------------------------------

#: Why a daemon has to be started anew for these.
IMMUTABLE = {
    "delayed_delete": "read only so that files can be shared",
    "metadata_encryption_key": "half of a run must not read with one key, half with another",
    "enabled_backends": "stores are built once: a run's candidates were planned for them",
    "daemon": "what a process is was decided at its start",
    "restore": "of the command line",
    "dry-run": "of the command line",
    "format": "whoever reads the reports expects one format",
    "workers": "a process with workers is another one from its start",
    "image": "of the command line",
    "store": "of the command line",
    "owner": "of the command line",
    "accept-missing": "of the command line",
    "wait": "of the command line",
    "force": "of the command line",
    "connection": "entries of one run belong into one database",
    "required": "a process that started without a state database was allowed to",
    "stores": "as enabled_backends",
    "default_store": "as enabled_backends",
    "default_backend": "not used",
    "audit_file": "a trail that changes its place in mid-run has a gap; logrotate moves it",
    "listen": "clients know where",
    "token_file": "its content is what changes, and that is read at each use",
    "max_connections": "as listen",
    "timeout": "as listen",
    "source": "a run's candidates come from one source",
    "purge_cache": "clients of all API nodes are made once",
    "cache_endpoints": "as purge_cache",
}


def test_every_option_can_be_reloaded_or_has_a_reason_not_to() -> None:
    options = [
        *UPSTREAM_OPTS,
        *CLI_OPTS,
        *SCRUBBER_OPTS,
        *STATE_OPTS,
        *ADMIN_OPTS,
        *GLANCE_OPTS,
        *GLANCE_STORE_OPTS,
    ]
    assert {opt.name for opt in options if not opt.mutable} == set(IMMUTABLE)


RELOADS = [
    # section, option, old value, new value
    ("DEFAULT", "scrub_time", "1", "2"),
    ("DEFAULT", "scrub_pool_size", "4", "64"),
    ("DEFAULT", "wakeup_time", "1", "2"),
    ("scrubber", "claim_lease", "100", "200"),
    ("scrubber", "call_timeout", "10", "20"),
    ("scrubber", "page_size", "10", "20"),
    ("scrubber", "missing_threshold_count", "1", "2"),
    ("scrubber", "missing_threshold_percent", "1", "2"),
    ("scrubber", "retry_base", "1", "2"),
    ("scrubber", "retry_cap", "1", "2"),
    ("scrubber", "retry_attempts", "1", "2"),
    ("scrubber", "removed_location_age", "1", "2"),
    ("scrubber", "graceful_shutdown_timeout", "1", "2"),
    ("scrubber", "wakeup_jitter", "1", "2"),
    ("scrubber", "scrub_window", "22:00-06:00 UTC", "23:00-06:00 UTC"),
    ("scrubber", "trigger_images", "1", "2"),
    ("scrubber", "trigger_bytes", "1", "2"),
    ("scrubber", "trigger_age", "1", "2"),
    ("scrubber", "trigger_interval", "1", "2"),
    ("scrubber", "unreadable_live", "stop", "ignore"),
    ("state", "run_history", "1", "2"),
]


def value_of(conf: cfg.ConfigOpts, section: str, option: str) -> str:
    return str(conf[option] if section == "DEFAULT" else conf[section][option])


@pytest.mark.parametrize(("section", "option", "old", "new"), RELOADS)
def test_a_changed_option_takes_effect(
    tmp_path: Path, section: str, option: str, old: str, new: str
) -> None:
    words = write(tmp_path, f"[{section}]\n{option} = {old}\n")
    conf = config.load(words)
    assert value_of(conf, section, option) == old
    write(tmp_path, f"[{section}]\n{option} = {new}\n")
    config.reload(conf, words, registry.check)
    assert value_of(conf, section, option) == new


def test_every_mutable_option_is_among_those_that_are_reloaded_here() -> None:
    options = [
        *UPSTREAM_OPTS,
        *CLI_OPTS,
        *SCRUBBER_OPTS,
        *STATE_OPTS,
    ]
    mutable = {opt.name for opt in options if opt.mutable}
    assert mutable == {option for _, option, _, _ in RELOADS}


GOOD = "[DEFAULT]\nscrub_time = 1\nwakeup_time = 10\n[scrubber]\npage_size = 7\n"


@pytest.mark.parametrize(
    "bad",
    [
        *(content for content, _ in BAD_FILES),
        *BAD_SYNTAX,
        "[scrubber]\ncall_timeout = 500\n",
        "[DEFAULT]\nmetadata_encryption_key = short\n",
    ],
)
def test_a_bad_file_is_refused_whole_and_the_old_values_stay(tmp_path: Path, bad: str) -> None:
    words = write(tmp_path, GOOD)
    conf = config.load(words)
    before = everything(conf)
    write(tmp_path, f"[DEFAULT]\nwakeup_time = 99\n[scrubber]\npage_size = 9\n{bad}")
    with pytest.raises(errors.ConfigError):
        config.reload(conf, words, registry.check)
    assert everything(conf) == before


def everything(conf: cfg.ConfigOpts) -> dict[str, object]:
    """The value of every option; raises for one that cannot be read any more."""
    values: dict[str, object] = {}
    for name in conf:
        value = conf[name]
        if isinstance(value, cfg.ConfigOpts.GroupAttr):
            values.update({f"{name}.{option}": value[option] for option in value})
        else:
            values[name] = value
    return values


def test_a_file_that_is_gone_is_refused_and_the_old_values_stay(tmp_path: Path) -> None:
    words = write(tmp_path, GOOD)
    conf = config.load(words)
    (tmp_path / "scrubber.conf").unlink()
    with pytest.raises(errors.ConfigError, match=r"scrubber\.conf"):
        config.reload(conf, words, registry.check)
    assert conf.scrub_time == 1


def test_a_good_file_after_a_bad_one_takes_effect(tmp_path: Path) -> None:
    words = write(tmp_path, GOOD)
    conf = config.load(words)
    write(tmp_path, "[DEFAULT]\nscrub_time = x\n")
    with pytest.raises(errors.ConfigError):
        config.reload(conf, words, registry.check)
    write(tmp_path, "[DEFAULT]\nscrub_time = 5\n")
    config.reload(conf, words, registry.check)
    assert conf.scrub_time == 5
    assert conf.wakeup_time == 300


def test_an_immutable_option_keeps_its_value(tmp_path: Path) -> None:
    words = write(tmp_path, "[DEFAULT]\nenabled_backends = fast:file\n")
    conf = config.load(words)
    write(tmp_path, "[DEFAULT]\nenabled_backends = other:file\nscrub_time = 3\n")
    config.reload(conf, words, registry.check)
    assert conf.enabled_backends == {"fast": "file"}
    assert conf.scrub_time == 3


def test_the_command_line_still_counts_after_a_reload(tmp_path: Path) -> None:
    words = [*write(tmp_path, "[DEFAULT]\ndaemon = false\n"), "--daemon", "--store", "fast"]
    conf = config.load(words)
    write(tmp_path, "[DEFAULT]\ndaemon = false\nscrub_time = 3\n")
    config.reload(conf, words, registry.check)
    assert conf.daemon is True
    assert conf.cli_stores == ["fast"]
    assert conf.scrub_time == 3


def test_the_sample_holds_every_option_that_belongs_into_a_file() -> None:
    listed = {opt.name for _, opts in list_opts() for opt in opts}
    of_the_command_line = {
        opt.name for opt in CLI_OPTS if IMMUTABLE[opt.name] == "of the command line"
    }
    every = {*IMMUTABLE, *(option for _, option, _, _ in RELOADS)}
    assert listed == every - of_the_command_line


def test_every_option_has_a_help_text_and_no_other_sections_are_claimed() -> None:
    sections = {section for section, _ in list_opts()}
    assert sections == {None, "scrubber", "state", "admin", "glance", "glance_store"}
    assert all(opt.help for _, opts in list_opts() for opt in opts)


@pytest.mark.parametrize(
    ("section", "option"),
    [
        ("DEFAULT", "wakeup_time"),
        ("scrubber", "claim_lease"),
        ("state", "run_history"),
        ("admin", "timeout"),
        ("admin", "max_connections"),
    ],
)
def test_a_number_without_a_value_is_refused(tmp_path: Path, section: str, option: str) -> None:
    with pytest.raises(errors.ConfigError, match=f"{option}.*no value"):
        config.load(write(tmp_path, f"[{section}]\n{option} =\n"))


SECONDS = ["claim_lease", "graceful_shutdown_timeout", "retry_cap", "trigger_interval"]


@pytest.mark.parametrize("option", SECONDS)
def test_more_seconds_than_a_clock_has_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(errors.ConfigError, match=option):
        config.load(write(tmp_path, f"[scrubber]\n{option} = 99999999999999\n"))


def test_a_restore_of_nothing_is_no_run(tmp_path: Path) -> None:
    """As a script says it whose variable is empty: everything that is due would be deleted."""
    words = write(tmp_path, "[DEFAULT]\n")
    for flag in (["--restore", ""], ["--restore="]):
        with pytest.raises(errors.ConfigError, match="--restore needs the id of an image"):
            config.load([*words, *flag])
    assert not config.load(write(tmp_path, "[DEFAULT]\nrestore =\n")).restore
