"""Every option but those of the stores: upstream's names in [DEFAULT], ours in [scrubber] & co.

Those that may change while the daemon runs are ``mutable``.
"""

from oslo_config import cfg, types

from scrubber import units
from scrubber.admin import address

PROJECT = "scrubber"

#: The source whose images only Glance's API deletes.
GLANCE_API = "glance_api"

#: Seconds.
_DAY, _YEAR = 86_400, 366 * 86_400

#: Processes of one host.
MOST_WORKERS = 256

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

# What no file is to say has another name inside: a section of the file, a store's say, would hide
# an option of its name.
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
        dest="cli_dry_run",
        default=False,
        help="Show what a run would delete and what not, and why; write and delete nothing.",
    ),
    cfg.StrOpt(
        "format",
        choices=[("text", "for people"), ("json", "one document on standard output")],
        default="text",
        help="How to print the report.",
    ),
    cfg.IntOpt(
        "workers",
        dest="cli_workers",
        min=0,
        max=MOST_WORKERS,
        metavar="N",
        help="Processes that scrub, 0 for one per core; in place of workers in section [scrubber].",
    ),
    cfg.MultiStrOpt(
        "image",
        dest="cli_images",
        default=[],
        metavar="ID",
        help="Only this image (may be repeated).",
    ),
    cfg.MultiStrOpt(
        "store",
        dest="cli_stores",
        default=[],
        metavar="S",
        help="Only this store (may be repeated).",
    ),
    cfg.MultiStrOpt(
        "owner",
        dest="cli_owners",
        default=[],
        metavar="P",
        help="Only this project (may be repeated).",
    ),
    cfg.MultiStrOpt(
        "accept-missing",
        dest="cli_accept_missing",
        default=[],
        metavar="STORE",
        help="Believe this store when it says that bytes are gone, though nothing there proves "
        "that it is the right one (may be repeated).",
    ),
    cfg.IntOpt(
        "wait",
        dest="cli_wait",
        default=0,
        min=0,
        metavar="SECONDS",
        help="With --restore: how long to wait for a scrubber that is at work on the image.",
    ),
    cfg.BoolOpt(
        "force",
        dest="cli_force",
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
        "workers",
        default=1,
        min=0,
        max=MOST_WORKERS,
        help="Processes that scrub: with 1 it is the one that you start, with more it starts so "
        "many others, which share the work; 0 is one for each CPU core. scrub_pool_size and "
        "scrub_max_connections are for each of them, scrub_max_rate is shared. Not for "
        "source = glance_api, where Glance itself is the limit.",
    ),
    cfg.IntOpt(
        "claim_lease",
        default=300,
        min=10,
        max=_DAY,
        mutable=True,
        help="Seconds after which another scrubber may take over what this one claimed and does "
        "not renew. Short: a dead scrubber's work is taken over soon. Long: more patience with a "
        "slow database. The same on all hosts.",
    ),
    cfg.IntOpt(
        "call_timeout",
        default=60,
        min=1,
        max=_DAY,
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
        max=10 * _YEAR,
        mutable=True,
        help="Seconds after which a location that could not be deleted is tried again, at the "
        "latest; doubled by each further failure.",
    ),
    cfg.IntOpt(
        "retry_cap",
        default=21600,
        min=1,
        max=10 * _YEAR,
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
        max=_DAY,
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
        max=_DAY,
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
        max=10 * _YEAR,
        mutable=True,
        help="Seconds for which the reports of runs are kept; 30 days. What is older is removed "
        "once an hour.",
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
        max=3600,
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
