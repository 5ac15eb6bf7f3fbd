"""Every option of scrubber: upstream's names in [DEFAULT], what is new in [scrubber].

An operator's glance-scrubber.conf is read as it is.  Options that may change while
the daemon runs are ``mutable``; :func:`reload` refuses a bad file whole.
"""

import contextlib
import io
import logging
import re
import sys
from collections.abc import Callable, Collection, Sequence

from oslo_config import cfg, types
from oslo_db import options as db_options
from oslo_log import log

from scrubber import __version__, arguments, errors, units
from scrubber.admin import address

PROJECT = "scrubber"

UPSTREAM_OPTS = [
    cfg.IntOpt(
        "scrub_time",
        default=0,
        min=0,
        mutable=True,
        help="Seconds an image stays pending_delete before its bytes may be deleted: as long as "
        "that, --restore can give it back. 0 deletes at the next run.",
    ),
    cfg.IntOpt(
        "scrub_pool_size",
        default=16,
        min=1,
        max=4096,
        mutable=True,
        help="Store calls at the same time (green threads). 1 deletes one batch after the other. "
        "Stores on file systems use native threads, as many as this says at start, from 20 to 256.",
    ),
    cfg.IntOpt(
        "wakeup_time",
        default=300,
        min=0,
        mutable=True,
        help="Seconds between the end of a run and the start of the next one, as a daemon. With 0 "
        "runs follow each other, one second apart.",
    ),
    cfg.BoolOpt(
        "delayed_delete",
        default=False,
        help="As in glance-api.conf; read so that files can be shared. scrubber deletes what is "
        "pending whether this is on or off.",
    ),
    cfg.StrOpt(
        "metadata_encryption_key",
        secret=True,
        help="The key with which Glance encrypts location URLs: 16, 24 or 32 characters, the same "
        "as in glance-api.conf. Rows that are not encrypted are read as well.",
    ),
    cfg.DictOpt(
        "enabled_backends",
        default={},
        help="The stores, as in glance-api.conf: id:type, … with one section per id. Without it "
        "[glance_store] names the only store.",
    ),
]

CLI_OPTS = [
    cfg.BoolOpt(
        "daemon",
        short="D",
        default=False,
        help="Keep running and scrub every wakeup_time seconds. Also: --daemon true|false.",
    ),
    cfg.StrOpt(
        "restore",
        metavar="IMAGE_ID",
        help="Give back an image that is pending_delete, then exit. Daemons may go on running.",
    ),
    cfg.BoolOpt(
        "dry-run",
        default=False,
        help="Show what a run would delete and what not, and why; write and delete nothing.",
    ),
    cfg.StrOpt(
        "format",
        choices=[("text", "for people"), ("json", "one document on standard output")],
        default="text",
        help="How to print the report.",
    ),
    cfg.MultiStrOpt("image", default=[], metavar="ID", help="Only this image (may be repeated)."),
    cfg.MultiStrOpt("store", default=[], metavar="S", help="Only this store (may be repeated)."),
    cfg.MultiStrOpt("owner", default=[], metavar="P", help="Only this project (may be repeated)."),
    cfg.MultiStrOpt(
        "accept-missing",
        default=[],
        metavar="STORE",
        help="Believe this store when it says that bytes are gone, though nothing there proves "
        "that it is the right one (may be repeated).",
    ),
    cfg.IntOpt(
        "wait",
        default=0,
        min=0,
        metavar="SECONDS",
        help="With --restore: how long to wait for a scrubber that is at work on the image.",
    ),
    cfg.BoolOpt(
        "force",
        default=False,
        help="With --restore: also when a scrubber took the image and was not heard of since; be "
        "sure that it is dead, or it may still delete bytes.",
    ),
]

SCRUBBER_OPTS = [
    cfg.StrOpt(
        "source",
        default="database",
        help="Where deleted images come from: database, Glance's own, which alone knows what is "
        "pending_delete; or glance_api, for operators without it: images that carry retire_tag of "
        "section [glance] are deleted through Glance's API.",
    ),
    cfg.IntOpt(
        "claim_lease",
        default=300,
        min=10,
        mutable=True,
        help="Seconds after which another scrubber may take over what this one claimed and does "
        "not renew. Short: a dead scrubber's work is taken over soon. Long: more patience with a "
        "slow database. The same on all hosts.",
    ),
    cfg.IntOpt(
        "call_timeout",
        default=60,
        min=1,
        mutable=True,
        help="The longest that one store call is expected to take, in seconds; nothing is sent "
        "when less than that is left of a claim. Less than claim_lease.",
    ),
    cfg.IntOpt(
        "page_size",
        default=1000,
        min=1,
        max=3000,
        mutable=True,
        help="Images read and claimed together. Larger pages cost memory, smaller ones time.",
    ),
    cfg.IntOpt(
        "missing_threshold_count",
        default=10,
        min=0,
        mutable=True,
        help="In a store without a live image to prove itself by: so many locations whose bytes "
        "are not there are taken as deleted. 0 never, except by missing_threshold_percent.",
    ),
    cfg.IntOpt(
        "missing_threshold_percent",
        default=10,
        min=0,
        max=100,
        mutable=True,
        help="Likewise, as a share of the locations that the run touched in that store. 100 "
        "believes every store: an unmounted directory would look like a deleted one.",
    ),
    cfg.IntOpt(
        "retry_base",
        default=30,
        min=1,
        mutable=True,
        help="Seconds after which a location that could not be deleted is tried again, at the "
        "latest; doubled by each further failure.",
    ),
    cfg.IntOpt(
        "retry_cap",
        default=21600,
        min=1,
        mutable=True,
        help="The most that retry_base grows to, in seconds.",
    ),
    cfg.IntOpt(
        "retry_attempts",
        default=8,
        min=1,
        mutable=True,
        help="Failures after which a location is parked: listed by scrubber-manage parked, and "
        "tried again only every retry_cap seconds.",
    ),
    cfg.IntOpt(
        "removed_location_age",
        default=3600,
        min=0,
        mutable=True,
        help="Seconds after which a location removed from a live image may be deleted; scrub_time "
        "if that is longer. Long enough for any image import to end: an import can bring "
        "a removed location back.",
    ),
    cfg.StrOpt(
        "unreadable_live",
        default="stop",
        choices=[
            ("stop", "stop the run: nobody can say which bytes that location uses"),
            ("ignore", "go on; bytes that only such a location uses may be deleted"),
        ],
        mutable=True,
        help="What to do when a live location cannot be read (wrong metadata_encryption_key).",
    ),
    cfg.IntOpt(
        "wakeup_jitter",
        default=5,
        min=0,
        max=100,
        mutable=True,
        help="By so many percent of wakeup_time a daemon wakes up earlier or later, so that those "
        "which were started together do not stay together. 0 keeps to wakeup_time; 100 is "
        "anything from at once to twice of it.",
    ),
    cfg.Opt(
        "scrub_window",
        type=units.QuietHours(),
        mutable=True,
        sample_default="22:00-06:00 Europe/Berlin",
        help="Quiet hours: a daemon runs only between these times of each day, in this time zone "
        "(without one, in this host's). A run that is still going on at the end is told to end, "
        "and what it leaves goes on at the next start. Runs that somebody asks for (SIGUSR1, "
        "scrubber-manage run-now) go on at any time. Empty: the whole day.",
    ),
    cfg.IntOpt(
        "trigger_images",
        default=0,
        min=0,
        mutable=True,
        help="A daemon does not wait for wakeup_time once so many deleted images have become due "
        "since its last run began. 0 waits.",
    ),
    cfg.Opt(
        "trigger_bytes",
        type=units.Size(),
        default=0,
        mutable=True,
        help="Likewise, once they are so large together: bytes, or 500GB, or 1.5TiB. 0 waits.",
    ),
    cfg.IntOpt(
        "trigger_age",
        default=0,
        min=0,
        mutable=True,
        help="Likewise, once one of them has been due for so many seconds. 0 waits.",
    ),
    cfg.IntOpt(
        "trigger_interval",
        default=60,
        min=1,
        mutable=True,
        help="Seconds between two looks whether one of these, or scrub_free_space of a store, is "
        "reached. A look is a query on the images table, and none is made while no trigger is set.",
    ),
    cfg.StrOpt(
        "audit_file",
        default="/var/log/scrubber/audit.log",
        help="The audit trail: a line of JSON for each location, saying what became of it. The "
        "file is made with mode 0640, and made anew when it was moved away (logrotate). If it "
        "cannot be written, scrubbing goes on, with a warning. Empty, or where the directory of "
        "the default does not exist: a daemon writes these lines to its log, a single run only "
        "if debug is on.",
    ),
    cfg.IntOpt(
        "graceful_shutdown_timeout",
        default=60,
        min=0,
        mutable=True,
        help="Seconds that calls in flight are given to end after SIGTERM or SIGINT; then scrubber "
        "leaves, and what was in flight is done again later. 0 waits for ever.",
    ),
]

STATE_OPTS = [
    cfg.StrOpt(
        "connection",
        secret=True,
        default="sqlite:////var/lib/scrubber/scrubber.sqlite",
        help="The database in which scrubber remembers what could not be deleted and when to try "
        "again: sqlite, mysql+pymysql or postgresql. Made at the first run. Hosts that share the "
        "work share it too. Empty: nothing is remembered from one process to the next.",
    ),
    cfg.BoolOpt(
        "required",
        default=False,
        help="Refuse to run without that database. Otherwise it is missed with a warning, and "
        "scrubbing goes on.",
    ),
    cfg.IntOpt(
        "run_history",
        default=30 * 24 * 3600,
        min=0,
        mutable=True,
        help="Seconds for which the reports of runs are kept; 30 days. 0 keeps none once the next "
        "run began.",
    ),
]

ADMIN_OPTS = [
    cfg.Opt(
        "listen",
        type=address.ListenOption(),
        default="127.0.0.1:9810",
        help="Where a daemon serves its admin API: probes, metrics, watching and steering. An IP "
        "address with a port, or unix: with a path, as unix:/run/scrubber/admin.sock. If it is "
        "taken, scrubbing goes on without, with a warning, and it is tried again. Empty: nowhere.",
    ),
    cfg.StrOpt(
        "token_file",
        help="A file with the token that clients need over TCP to change something: Authorization: "
        "Bearer. Others than its owner and its group must have no rights to it. It is read at "
        "each use, so a new token holds at once. Empty: over TCP nobody may change anything, and "
        "clients of other hosts see nothing but probes and metrics.",
    ),
    cfg.IntOpt(
        "max_connections",
        default=64,
        min=1,
        max=1024,
        help="Clients of the admin API at the same time. One more ends the connection that is "
        "open for longest, so clients that say nothing keep nobody out.",
    ),
    cfg.IntOpt(
        "timeout",
        default=10,
        min=1,
        help="Seconds after which a client of the admin API is hung up on, whatever it does.",
    ),
]

GLANCE_STORE_OPTS = [
    cfg.ListOpt("stores", default=["file", "http"], help="Types of stores, single-store mode."),
    cfg.StrOpt("default_store", default="file", help="The store, in single-store mode."),
    cfg.StrOpt("default_backend", help="As in glance-api.conf; not used."),
]

#: Those that any source may need; scrubber/glance/section.py has the others.
GLANCE_OPTS = [
    cfg.BoolOpt(
        "purge_cache",
        default=False,
        help="After an image is scrubbed, whatever the source, delete its copies from the image "
        "caches of Glance's API nodes: each serves what it holds for as long as it holds it.",
    ),
    cfg.ListOpt(
        "cache_endpoints",
        default=[],
        item_type=types.URI(),
        help="With purge_cache: the URLs of all API nodes, each of its own and not through a load "
        "balancer. Empty: the one that is found as for everything else.",
    ),
]

STORE_SECTION = "glance_store"
GLANCE_SECTION = "glance"
STATE_SECTION = "state"
ADMIN_SECTION = "admin"

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
        if value is None and name in _NEEDED:
            raise _bad_value(conf, name, None, ValueError("it has no value"))
        if isinstance(value, cfg.ConfigOpts.GroupAttr):
            check_section(conf, name)
    scrubber = conf[PROJECT]
    if scrubber.call_timeout >= scrubber.claim_lease:
        raise errors.ConfigError(
            f"option call_timeout ({scrubber.call_timeout}) in section [{PROJECT}] must be less "
            f"than claim_lease ({scrubber.claim_lease}): raise claim_lease"
        )
    key = conf.metadata_encryption_key
    if key and len(key.encode()) not in (16, 24, 32):
        raise errors.ConfigError(
            "option metadata_encryption_key in section [DEFAULT] must be 16, 24 or 32 bytes long, "
            f"as in glance-api.conf; it has {len(key.encode())}"
        )


#: An empty number is None to oslo.config, whatever the default is.
_NEEDED = frozenset(
    opt.dest for opt in [*UPSTREAM_OPTS, *CLI_OPTS, *SCRUBBER_OPTS] if opt.default is not None
)


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
        if value is None and section == PROJECT and name in _NEEDED:
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


#: Command line options that an operator may want in the file as well.
_ALSO_IN_FILE = frozenset({"daemon", "format"})


def list_opts() -> list[tuple[str | None, list[cfg.Opt]]]:
    """For oslo-config-generator: what belongs into a configuration file, by section."""
    in_file = [opt for opt in CLI_OPTS if opt.name in _ALSO_IN_FILE]
    return [
        (None, [*UPSTREAM_OPTS, *in_file]),
        (PROJECT, SCRUBBER_OPTS),
        (STATE_SECTION, STATE_OPTS),
        (ADMIN_SECTION, ADMIN_OPTS),
        (STORE_SECTION, GLANCE_STORE_OPTS),
        (GLANCE_SECTION, GLANCE_OPTS),
    ]
