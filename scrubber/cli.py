"""The program: ``scrubber`` once, as a daemon, as a dry run, or to restore an image.

Exit status: 0 nothing left undone; 1 could not run, or restore refused; 2 wrong command
line; 3 ran, but left something behind (the report says what and why).
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from scrubber import config, errors, pool, service, signals, systemd
from scrubber.model import Backlog
from scrubber.options import ADMIN_SECTION, GLANCE_API, PROJECT
from scrubber.planning.wakeups import Trigger
from scrubber.process import Process
from scrubber.reporting import text
from scrubber.reporting.audit import AuditTrail, open_trail
from scrubber.reporting.document import print_report
from scrubber.reporting.report import Report
from scrubber.restore import Restored, Restorer
from scrubber.sources.opening import open_for_restore

if TYPE_CHECKING:
    from scrubber.admin.server import Server

LOG = logging.getLogger(__name__)

DONE, COULD_NOT_RUN, LEFT_SOMETHING = 0, 1, 3

_EXIT_STATUS = {
    "succeeded": DONE,
    "partial": LEFT_SOMETHING,
    "cancelled": LEFT_SOMETHING,
    "failed": COULD_NOT_RUN,
}

# What glance-scrubber says, word for word: scripts look for it.
_RESTORE_AND_DAEMON = (
    "The restore and daemon options should not be set together. "
    "Please use either of them in one request."
)


def main(argv: Sequence[str]) -> int:
    """Run the program; returns its exit status.

    :raises SystemExit: for a wrong command line, --help and --version.
    """
    conf: cfg.ConfigOpts | None = None
    try:
        conf = config.load(argv)
        config.setup_logging(conf)
        _check_combination(conf)
        with (
            closing(open_trail(conf, is_daemon=_is_daemon(conf))) as audit,
            closing(Process(conf, argv, audit, workers=_workers(conf))) as process,
        ):
            status = _main(process, audit)
            print(end="", flush=True)  # a full disk may show only now
            return status
    except errors.ScrubberError as error:
        message = str(error)
    except KeyboardInterrupt:
        message = "interrupted"
    except BrokenPipeError:
        message = ""  # whoever read it is gone and needs no explanation
    except OSError as error:
        message = str(error)
    except Exception as defect:
        LOG.exception("A defect in scrubber")
        message = f"a defect in scrubber, the log has more: {type(defect).__name__}"
    _could_not_run(message, as_json=_wants_json(conf, argv))
    return COULD_NOT_RUN


def _could_not_run(message: str, as_json: bool) -> None:
    if message:
        print(f"ERROR: {message}", file=sys.stderr)
    try:
        if as_json:
            print_json({"status": "failed", "error": message})
        print(end="", flush=True)
    except OSError:
        sys.stdout = None  # Python would try, and complain, once more at exit


def _wants_json(conf: cfg.ConfigOpts | None, argv: Sequence[str]) -> bool:
    """Also when the configuration cannot be read: then the command line alone says it."""
    if conf is not None:
        wanted: bool = conf.format == "json"
        return wanted
    return "--format=json" in argv or ("--format", "json") in pairwise(argv)


def _on_terminal() -> bool:
    """Whether standard output is one; it may also be closed."""
    return sys.stdout is not None and sys.stdout.isatty()


def _check_combination(conf: cfg.ConfigOpts) -> None:
    """Flags that contradict each other; a daemon = true in the file contradicts nothing."""
    daemon = conf.daemon and config.on_command_line(conf, "daemon")
    if conf.restore and daemon:
        raise errors.ConfigError(_RESTORE_AND_DAEMON)
    if conf.cli_dry_run and daemon:
        raise errors.ConfigError("--dry-run and --daemon should not be set together")
    if conf.cli_dry_run and conf.restore:
        raise errors.ConfigError("--dry-run and --restore should not be set together")


def _is_daemon(conf: cfg.ConfigOpts) -> bool:
    return bool(conf.daemon and not conf.cli_dry_run and not conf.restore)


def _workers(conf: cfg.ConfigOpts) -> int:
    """Looking and restoring are done here."""
    return 1 if conf.cli_dry_run or conf.restore else config.workers(conf)


def _main(process: Process, audit: AuditTrail) -> int:
    """Do what the command line says, until it is done or a signal ends it."""
    conf = process.conf
    if conf.restore:
        return _restore(process, conf.restore)
    notifier = systemd.Notifier()
    is_daemon = _is_daemon(conf)
    daemon = _daemon(process)

    def reload() -> None:
        with notifier.reloading():
            signals.reloader(process.reload)()

    def run_now() -> None:
        if is_daemon:
            daemon.run_now(Trigger.SIGNAL)

    handlers = signals.Handlers(
        process.stop,
        grace=lambda: conf[PROJECT].graceful_shutdown_timeout,
        reload=reload,
        run_now=run_now,
        leaving=process.kill_workers,
    )
    try:
        process.open()
        if not is_daemon:
            return _once(process)
        _serve(process, daemon, notifier, audit)
        return DONE
    finally:
        handlers.close()
        notifier.close()


# Once ---------------------------------------------------------------------------------------


def _once(process: Process) -> int:
    conf = process.conf
    if not conf.cli_dry_run:
        process.steer(doing=lambda: {"state": "running"} | process.workers(), run_now=lambda: None)
    run = process.new_run("once")
    report = run.report
    if conf.format == "text" and _on_terminal():
        with_progress(report, lambda: process.execute(run))
    else:
        process.execute(run)
    if report.failure:
        print(f"ERROR: {report.failure}", file=sys.stderr)
    if conf.format == "json":
        print_json(report.as_dict())
    elif _on_terminal() or report.rehearsal:
        print_report(report)
    else:
        print(text.summary(report))
    return _EXIT_STATUS[report.status]


# Daemon -------------------------------------------------------------------------------------


def _daemon(process: Process) -> service.Daemon:
    conf = process.conf

    def backlog(older: float, younger: float) -> Backlog:
        assert process.source is not None, "asked after the first run only"
        return process.source.backlog(older, younger)

    lookout = service.Lookout(
        backlog,
        process.stores.drivers.values(),
        triggers=lambda: service.triggers(conf),
        scrub_time=lambda: conf.scrub_time,
    )
    return service.Daemon(
        execute=lambda trigger: process.execute(process.new_run(trigger)),
        cancel=process.cancel,
        schedule=lambda: service.schedule(conf),
        stop=process.stop,
        changed=process.slots.changed,
        pauses=process.orders,
        look_out=lookout.look,
        look_interval=lambda: conf[PROJECT].trigger_interval,
        on_report=lambda report: _print_if_json(conf, report),
    )


def _serve(
    process: Process, daemon: service.Daemon, notifier: systemd.Notifier, audit: AuditTrail
) -> None:
    def line() -> str:
        return service.status_line(daemon.status(), process.run.report if process.run else None)

    process.steer(
        doing=lambda: daemon.status().as_dict() | {"text": line()} | process.workers(),
        run_now=daemon.run_now,
    )
    with ExitStack() as stack:
        stack.callback(systemd.Reporter(notifier, line, process.stop).close)
        if server := _admin(process, daemon, audit, line):
            stack.callback(server.close)
        service.try_stores(process.stores.drivers.values())
        notifier.ready()
        daemon.serve()


def _admin(
    process: Process, daemon: service.Daemon, audit: AuditTrail, line: Callable[[], str]
) -> "Server | None":
    """The admin API, if there is to be one."""
    if process.conf[ADMIN_SECTION].listen is None:
        return None
    # Only where it is served: it takes a while to import.
    from scrubber.admin.server import open_server
    from scrubber.control import ProcessControl

    control = ProcessControl(process, daemon, audit, line)
    control.server = open_server(process.conf, control)
    return control.server


def _print_if_json(conf: cfg.ConfigOpts, report: Report) -> None:
    if conf.format == "json":
        print_json(report.as_dict(), indent=None)


# Restore ------------------------------------------------------------------------------------


def _restore(process: Process, image: str) -> int:
    conf = process.conf
    ours = conf[PROJECT]
    if ours.source == GLANCE_API:
        return _unmark(process, image)
    source = process.source = open_for_restore(conf, process.stop)
    restorer = Restorer(source, process.stores, ours.claim_lease, ours.call_timeout)
    restored = restorer.restore(image, wait=conf.cli_wait, force=conf.cli_force)
    for warning in restored.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    if conf.format == "json":
        print_json(restored.as_dict())
    else:
        print(_restored_line(restored))
    return DONE


def _unmark(process: Process, image: str) -> int:
    """Through Glance's API: what is not deleted yet is given back by taking its tag away."""
    from scrubber.sources import glance_api

    source = process.source = glance_api.open_source(process.conf, process.stop)
    source.unmark(image)
    if process.conf.format == "json":
        print_json({"status": "succeeded", "image": image})
    else:
        print(f"Image {image} is not marked for deletion any more.")
    return DONE


def _restored_line(restored: Restored) -> str:
    stores = ", ".join(copy.location.store or "its store" for copy in restored.copies)
    return f"Image {restored.image} is active again, with its bytes in {stores}."


def print_json(document: dict[str, Any], indent: int | None = 2) -> None:
    print(json.dumps(document, indent=indent), flush=True)


def with_progress(report: Report, execute: Callable[[], object]) -> None:
    """Execute with a line on the terminal that says how far it is."""
    line = text.ProgressLine(lambda: text.progress(report))

    def tick() -> None:
        while True:
            line.tick()
            pool.sleep(0.2)

    ticker = pool.Task(tick)
    try:
        execute()
    finally:
        ticker.kill()
        line.close()
