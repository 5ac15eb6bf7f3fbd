"""Keys in the configuration files that nobody reads.

Sections of scrubber's own hold nothing else, so every unknown key there is a mistake.  Others
are shared with Glance, whose options are many and not known here: there only a key is reported
that resembles one which scrubber reads, or that belongs into [scrubber].
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg

from scrubber.checks.finding import Finding, ok, warning
from scrubber.checks.site import Site
from scrubber.options import GLANCE_SECTION, PROJECT, STORE_SECTION, list_opts
from scrubber.stores.registry import DEFAULTS_SECTION

_DEFAULT = "DEFAULT"

#: They resemble options that are known, and are no mistakes: Glance's own, and older names.
_NO_MISTAKES = frozenset(
    {
        "filesystem_store_metadata_file",
        "graceful_shutdown_timeout",
        "log_config",
        "logdir",
        "logfile",
        "os_region_name",
        "swift_store_admin_tenants",
        "swift_store_use_trusts",
        "vmware_api_insecure",
    }
)

#: How alike two names are of which one is a slip (difflib's ratio).
_ALIKE = 0.8

_LONGEST_NAME = 60


def look(site: Site) -> Iterator[Finding]:
    """Read the files once more, by name only."""
    assert site.built is not None  # from now on the stores' options are known
    known = known_options(site.conf)
    files = _files(site.conf)
    strangers = 0
    for file in files:
        for stranger in unread(_keys(file), known, own_sections()):
            strangers += 1
            yield warning("configuration", f"{file}: {stranger.message}", stranger.advice)
    if not files:
        yield warning(
            "configuration",
            "no configuration file is found: all options have their defaults",
            "name one with --config-file",
        )
    elif not strangers:
        yield ok("configuration", f"{', '.join(map(str, files))}: no key there that nobody reads")


def _files(conf: cfg.ConfigOpts) -> list[Path]:
    """In the order in which they are read."""
    files = [Path(file) for file in conf.config_file]
    for directory in conf.config_dir:
        files += sorted(Path(directory).glob("*.conf"))
    return files


def _keys(file: Path) -> dict[str, list[str]]:
    """The names in a file, by section."""
    sections: dict[str, dict[str, object]] = {}
    cfg.ConfigParser(str(file), sections).parse()
    return {section: list(values) for section, values in sections.items()}


def known_options(conf: cfg.ConfigOpts) -> dict[str, set[str]]:
    """The options that scrubber reads, by section."""
    sections = {name for name in conf if isinstance(conf[name], cfg.ConfigOpts.GroupAttr)}
    return {section: set(conf[section]) for section in sections} | {_DEFAULT: set(conf) - sections}


def own_sections() -> frozenset[str]:
    """Those of which all options are known here; [glance] also holds those of a login plugin."""
    named = {section for section, _ in list_opts() if section}
    return frozenset(named - {STORE_SECTION, GLANCE_SECTION})


@dataclass(frozen=True, slots=True)
class Stranger:
    """A name that nobody reads."""

    message: str
    advice: str


def unread(
    keys: Mapping[str, Collection[str]],
    known: Mapping[str, Collection[str]],
    own: Collection[str],
) -> Iterator[Stranger]:
    """The names of one file that are mistakes, as far as that can be known.

    :param keys: what is in the file, by section.
    :param known: what scrubber reads, by section.
    :param own: the sections that are scrubber's alone.
    """
    # oslo.config takes [Database] for [database].
    sections = {name.lower(): name for name in known}
    for written, names in keys.items():
        section = sections.get(written.lower())
        if section is not None:
            for name in names:
                if name not in known[section] and name not in _NO_MISTAKES:
                    yield from _stranger(name, section, known, own)
        elif meant := _closest(written, [*own, "database", DEFAULTS_SECTION]):
            yield Stranger(
                f"nobody reads section [{_cut(written)}]", f"write [{meant}] if that is meant"
            )


def _stranger(
    name: str, section: str, known: Mapping[str, Collection[str]], own: Collection[str]
) -> Iterator[Stranger]:
    message = f"nobody reads option {_cut(name)} in section [{section}]"
    elsewhere = [at for at in (_DEFAULT, "database", *sorted(own)) if name in known.get(at, ())]
    if section not in own:
        # The names in the others (timeout, connection) are anybody's.
        elsewhere = [at for at in elsewhere if at == PROJECT]
    belongs = next(iter(elsewhere), None)
    if belongs is not None:
        yield Stranger(message, f"it belongs into section [{belongs}]")
    elif meant := _closest(name, known[section]):
        yield Stranger(message, f"write {meant} if that is meant")
    elif section in own:
        yield Stranger(message, "remove it; etc/scrubber.conf.sample names all that there are")


def _closest(name: str, names: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE)), None)


def _cut(name: str) -> str:
    """A broken file may hold anything."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
