"""Reads the command line and the files, at start and at each reload; sets up the logs.

An operator's glance-scrubber.conf is read as it is; :func:`reload` refuses a bad file whole.
"""

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence

from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import log

from scrubber import __version__, arguments, errors
from scrubber.options import (
    ADMIN_OPTS,
    ADMIN_SECTION,
    CLI_OPTS,
    GLANCE_API,
    GLANCE_OPTS,
    GLANCE_SECTION,
    GLANCE_STORE_OPTS,
    PROJECT,
    SCRUBBER_OPTS,
    STATE_OPTS,
    STATE_SECTION,
    STORE_SECTION,
    UPSTREAM_OPTS,
)

_SECRET = frozenset(opt.dest for opt in [*UPSTREAM_OPTS, *db_options.database_opts] if opt.secret)


def parser() -> cfg.ConfigOpts:
    """A fresh configuration object that knows all options but those of the stores."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    # As upstream's scrubber: a cron job or a journal sees what happens.
    conf.set_default("use_stderr", True)
    conf.set_default(
        "default_log_levels",
        [
            *log.get_default_log_levels(),
            "alembic=WARN",
            "oslo_db=WARN",
            # What the database says is said by us: no traceback for what is no defect.
            "oslo_db.sqlalchemy.exc_filters=CRITICAL",
            "sqlalchemy.pool=CRITICAL",
            "stevedore=WARN",
            # Even with debug on: they log requests whole, with tokens and signatures.
            "boto3=WARN",
            "botocore=WARN",
            "cinderclient=WARN",
            "keystoneauth=ERROR",
            "oslo_vmware=WARN",
            "swiftclient=CRITICAL",
            "urllib3=WARN",
            # What these say of a failed call is said by us, in one line.
            "glance_store=ERROR",
        ],
    )
    conf.register_opts(UPSTREAM_OPTS)
    conf.register_cli_opts(CLI_OPTS)
    conf.register_opts(SCRUBBER_OPTS, group=PROJECT)
    conf.register_opts(STATE_OPTS, group=STATE_SECTION)
    conf.register_opts(ADMIN_OPTS, group=ADMIN_SECTION)
    conf.register_opts(GLANCE_STORE_OPTS, group=STORE_SECTION)
    conf.register_opts(GLANCE_OPTS, group=GLANCE_SECTION)
    conf.register_opts(db_options.database_opts, group="database")
    return conf


def load(argv: Sequence[str]) -> cfg.ConfigOpts:
    """Read command line and files.

    :raises ConfigError: a file cannot be read or holds a value that cannot be used.
    :raises SystemExit: with 2 for a wrong command line, with 0 after --help or --version.
    """
    conf = parser()
    _parse(conf, argv)
    _read_all(conf)
    return conf


def _parse(conf: cfg.ConfigOpts, argv: Sequence[str]) -> None:
    files, flags = arguments.files_and_flags(argv)
    _check_flags(flags)
    found = cfg.find_config_files(project=PROJECT)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            conf([*files, *flags], project=PROJECT, version=__version__, default_config_files=found)
    except SystemExit as leaving:
        # The flags are right, so this is the value of such an option in a file.
        if bad := _INVALID.match(said.getvalue()):
            raise errors.ConfigError(
                f"option {bad['option']} in section [DEFAULT] in {_names(files, found)} cannot be "
                f"used: {bad['reason']}"
            ) from None
        sys.stderr.write(said.getvalue())
        raise leaving from None
    except cfg.ConfigFilesNotFoundError as missing:
        names = ", ".join(missing.config_files)
        raise errors.ConfigError(f"cannot read configuration file {names}") from None
    except cfg.ConfigFilesPermissionDeniedError as denied:
        names = ", ".join(denied.config_files)
        raise errors.ConfigError(f"no permission to read configuration file {names}") from None
    except cfg.ConfigFileParseError as wrong:
        # It ends with the line itself, which may be that of a password.
        message = re.sub(r": (['\"]).*\1$", "", " ".join(str(wrong.msg).split()))
        raise errors.ConfigError(f"configuration file {wrong.config_file}: {message}") from None
    except UnicodeDecodeError as error:
        raise errors.ConfigError(
            f"configuration file {_names(files, found)} is not UTF-8 text: {error.reason}"
        ) from None
    except OSError as error:
        raise errors.ConfigError(
            f"cannot read configuration file {error.filename}: {error.strerror}"
        ) from None
    except cfg.Error as error:
        raise errors.ConfigError(" ".join(str(error).split())) from None
    sys.stderr.write(said.getvalue())


_INVALID = re.compile(r"argument --(?P<option>\S+): (?P<reason>.*)")


def _names(files: list[str], found: list[str]) -> str:
    """The files of the command line, or else those that were found."""
    named = [word for word in files if word not in ("--config-file", "--config-dir")]
    return ", ".join(word.partition("=")[2] or word for word in named or found)


def _check_flags(flags: list[str]) -> None:
    """Without any file, so that what is wrong is the command line.

    :raises SystemExit: with 2 for a wrong one, with 0 after --help or --version.
    """
    try:
        parser()(
            flags,
            project=PROJECT,
            version=__version__,
            default_config_files=[],
            default_config_dirs=[],
        )
    except SystemExit as leaving:
        # oslo.config says 1 for a flag's bad value, where argparse says 2.
        raise SystemExit(2 if leaving.code else 0) from None


def _read_all(conf: cfg.ConfigOpts) -> None:
    """Convert every value now, so that a bad one is an error here and not in mid-run."""
    for name in conf:
        try:
            value = conf[name]
        except (cfg.Error, ValueError) as bad:
            raise _bad_value(conf, name, None, bad) from None
        if value is None and name in _NEEDED[None]:
            raise _bad_value(conf, name, None, ValueError("it has no value"))
        if isinstance(value, cfg.ConfigOpts.GroupAttr):
            check_section(conf, name)
    if conf.restore == "" and on_command_line(conf, "restore"):
        raise errors.ConfigError("--restore needs the id of an image")
    scrubber = conf[PROJECT]
    if scrubber.call_timeout >= scrubber.claim_lease:
        raise errors.ConfigError(
            f"option call_timeout ({scrubber.call_timeout}) in section [{PROJECT}] must be less "
            f"than claim_lease ({scrubber.claim_lease}): raise claim_lease"
        )
    if scrubber.source == GLANCE_API and workers(conf) > 1:
        raise errors.ConfigError(
            f"option workers in section [{PROJECT}] must be 1 with source = {GLANCE_API}: Glance "
            "itself is the limit there, and nothing tells which process has an image"
        )
    key = conf.metadata_encryption_key
    if key and len(key.encode()) not in (16, 24, 32):
        raise errors.ConfigError(
            "option metadata_encryption_key in section [DEFAULT] must be 16, 24 or 32 bytes long, "
            f"as in glance-api.conf; it has {len(key.encode())}"
        )


#: An empty number is None to oslo.config, whatever the default is.
_NEEDED = {
    section: frozenset(opt.dest for opt in options if opt.default is not None)
    for section, options in (
        (None, [*UPSTREAM_OPTS, *CLI_OPTS]),
        (PROJECT, SCRUBBER_OPTS),
        (STATE_SECTION, STATE_OPTS),
        # Empty means nowhere.
        (ADMIN_SECTION, [opt for opt in ADMIN_OPTS if opt.name != "listen"]),
    )
}


def check_section(
    conf: cfg.ConfigOpts, section: str, secret: Collection[str] = frozenset()
) -> None:
    """Convert every value of a section.

    :param secret: options of this section whose values no message may quote.
    :raises ConfigError: one cannot be used.
    """
    for name in conf[section]:
        try:
            value = conf[section][name]
        except (cfg.Error, ValueError) as bad:
            raise _bad_value(conf, name, section, bad, name in secret) from None
        if value is None and name in _NEEDED.get(section, ()):
            raise _bad_value(conf, name, section, ValueError("it has no value"))


def _bad_value(
    conf: cfg.ConfigOpts, name: str, section: str | None, bad: Exception, secret: bool = False
) -> errors.ConfigError:
    # oslo.config says: Value for option x from LocationInfo(...'file') is not valid: <reason>
    where, _, reason = str(bad).rpartition(" is not valid: ")
    file = re.search(r"detail='(.*)'\)$", where)
    if secret or name in _SECRET:
        # What is substituted may be a part of it.
        reason = "wrong form; write $$ for each $ in it"
    return errors.ConfigError(
        f"option {name} in section [{section or 'DEFAULT'}] in "
        f"{file[1] if file else ', '.join(conf.config_file or ['the configuration'])} "
        f"cannot be used: {' '.join(reason.split())}"
    )


def reload(
    conf: cfg.ConfigOpts, argv: Sequence[str], check: Callable[[cfg.ConfigOpts], None]
) -> None:
    """Take over what changed in the files; mutable options only.

    oslo.config swaps the files in before it looks at the values, so a bad one would
    break every later read: the files are read by a second parser first.

    :param check: looks at what this module does not know, the stores' sections.
    :raises ConfigError: the files cannot be used; all old values stay.
    """
    check(load(argv))
    conf.mutate_config_files()


def workers(conf: cfg.ConfigOpts) -> int:
    """How many processes are to scrub."""
    wanted: int = conf[PROJECT].workers if conf.cli_workers is None else conf.cli_workers
    return wanted or len(os.sched_getaffinity(0))


def on_command_line(conf: cfg.ConfigOpts, name: str) -> bool:
    """Whether the value comes from the command line rather than from a file."""
    where = conf.get_location(name)
    return where is not None and where.location is cfg.Locations.command_line


def setup_logging(conf: cfg.ConfigOpts) -> None:
    """Logs go where the oslo.log options say; libraries speak up only when something is wrong."""
    try:
        log.setup(conf, PROJECT, version=__version__)
    except log.LogConfigError as bad:
        raise errors.ConfigError(
            f"option log_config_append in section [DEFAULT] cannot be used: {bad}"
        ) from None
    logging.captureWarnings(capture=True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
