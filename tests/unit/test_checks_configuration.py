"""Keys that nobody reads: mistakes are told from Glance's own options."""

from pathlib import Path

import pytest

from scrubber import config
from scrubber.checks import configuration
from scrubber.checks.finding import Severity
from scrubber.checks.site import Site

KNOWN = {
    "DEFAULT": {"scrub_time", "scrub_pool_size", "enabled_backends", "log_file"},
    "scrubber": {"claim_lease", "page_size"},
    "state": {"connection", "required"},
    "database": {"connection", "max_retries"},
    "fast": {"filesystem_store_datadir", "scrub_max_rate"},
}
OWN = {"scrubber", "state"}

MISTAKES = [
    # section, key; what is advised, None if it is no mistake as far as anybody knows
    ("DEFAULT", "scrub_time", None),
    ("DEFAULT", "scrubtime", "write scrub_time "),
    ("DEFAULT", "scrub_pool", "write scrub_pool_size "),
    ("DEFAULT", "claim_lease", "it belongs into section [scrubber]"),
    ("DEFAULT", "workers", None),
    ("DEFAULT", "logfile", None),
    ("DEFAULT", "connection", None),
    ("scrubber", "page_size", None),
    ("scrubber", "page-size", "write page_size "),
    ("scrubber", "scrub_time", "it belongs into section [DEFAULT]"),
    ("scrubber", "max_retries", "it belongs into section [database]"),
    ("scrubber", "workers", "remove it"),
    ("state", "conection", "write connection "),
    ("database", "connection", None),
    ("database", "conection", "write connection "),
    ("database", "use_tpool", None),
    ("Database", "conection", "write connection "),
    ("fast", "filesystem_store_datadirectory", "write filesystem_store_datadir "),
    ("fast", "filesystem_store_metadata_file", None),
    ("fast", "filesystem_thin_provisioning", None),
    ("fast", "page_size", "it belongs into section [scrubber]"),
    ("scruber", "page_size", "write [scrubber] "),
    ("databases", "connection", "write [database] "),
    ("paste_deploy", "config_file", None),
    ("slow", "scrubtime", None),
]


@pytest.mark.parametrize(("section", "key", "advice"), MISTAKES)
def test_mistakes_are_told_from_options_of_glance(
    section: str, key: str, advice: str | None
) -> None:
    strangers = list(configuration.unread({section: [key]}, KNOWN, OWN))
    if advice is None:
        assert strangers == []
    else:
        (stranger,) = strangers
        assert stranger.advice.startswith(advice)


def test_sections_of_our_own() -> None:
    own = configuration.own_sections()
    assert {"scrubber", "state"} <= own
    assert own.isdisjoint({"DEFAULT", "database", "glance", "glance_store"})


def test_a_name_without_end_is_cut() -> None:
    (stranger,) = configuration.unread({"scrubber": ["x" * 5000]}, KNOWN, OWN)
    assert len(stranger.message) < 120


def look(*files: Path, directory: Path | None = None) -> list[tuple[Severity, str]]:
    named = [word for file in files for word in ("--config-file", str(file))]
    named += ["--config-dir", str(directory)] if directory else []
    site = Site(config.load(named))
    found = [(at.severity, at.message) for at in configuration.look(site)]
    site.close()
    return found


def test_every_file_is_read(tmp_path: Path) -> None:
    main, more = tmp_path / "scrubber.conf", tmp_path / "more.conf"
    directory = tmp_path / "conf.d"
    directory.mkdir()
    main.write_text("[DEFAULT]\nenabled_backends = Fast:file\n[Fast]\nscrub_max_rate = 1\n")
    more.write_text("[scrubber]\npage_sise = 4\n")
    directory.joinpath("z.conf").write_text("[Fast]\nfilesystem_datadir = secret\n")
    directory.joinpath("z.conf.old").write_text("[scrubber]\nnonsense = 1\n")
    ((severity, message),) = look(main)
    assert (severity, str(main) in message) == (Severity.OK, True)
    (first, second) = look(main, more, directory=directory)
    assert (first[0], second[0]) == (Severity.WARNING, Severity.WARNING)
    assert f"{more}: nobody reads option page_sise in section [scrubber]" in first[1]
    assert f"{directory}/z.conf: nobody reads option filesystem_datadir in section" in second[1]
    assert "secret" not in second[1]


def test_the_sample_holds_no_mistake(tmp_path: Path) -> None:
    """Each option uncommented: the names, with no value that would be converted."""
    sample = Path(__file__).parents[2] / "etc" / "scrubber.conf.sample"
    keys: dict[str, list[str]] = {}
    section = ""
    for line in sample.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("#") and "=" in line and line[1].isalpha():
            keys.setdefault(section, []).append(line[1:].partition("=")[0].strip())
    assert len(keys["scrubber"]) > 5
    file = tmp_path / "scrubber.conf"
    file.write_text("")
    known = configuration.known_options(config.load(["--config-file", str(file)]))
    strangers = configuration.unread(keys, known, configuration.own_sections())
    assert list(strangers) == []


def test_no_file_at_all_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("oslo_config.cfg.find_config_files", lambda **_: [])
    ((severity, message),) = look()
    assert (severity, "no configuration file" in message) == (Severity.WARNING, True)
