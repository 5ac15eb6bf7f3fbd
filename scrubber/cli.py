"""The program: ``scrubber`` once, as a daemon, as a dry run, or to restore an image.

Exit status: 0 nothing left undone; 1 could not run, or restore refused; 2 wrong command
line; 3 ran, but left something behind (the report says what and why).
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, TypeVar

from oslo_config import cfg

from scrubber import config, errors, pool, service
from scrubber.health import Healths
from scrubber.model import Selection
from scrubber.planning.due import Ages
from scrubber.planning.proof import Thresholds
from scrubber.planning.retry import Patience
from scrubber.reporting import report as reports
from scrubber.reporting import text
from scrubber.restore import Restored, Restorer
from scrubber.run import Run, Settings
from scrubber.sources.database import DatabaseSource
from scrubber.sources.engine import Engine
from scrubber.sources.rehearsal import RehearsalSource
from scrubber.sources.restoring import RestoringSource
from scrubber.state.base import Ledger, NoLedger
from scrubber.state.ledger import SqlLedger
from scrubber.state.opening import ReopeningLedger, open_state
from scrubber.stores import registry
from scrubber.stores.rehearsal import RehearsalDriver

LOG = logging.getLogger(__name__)

S = TypeVar("S", bound=DatabaseSource)

DONE, COULD_NOT_RUN, LEFT_SOMETHING = 0, 1, 3

_EXIT_STATUS = {
    "succeeded": DONE,
    "partial": LEFT_SOMETHING,
    "cancelled": LEFT_SOMETHING,
    "failed": COULD_NOT_RUN,
}

#: So long a database that takes connections and then says nothing is waited for at start.
_START_SECONDS = 12.0

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
        with ExitStack() as stack:
            program = Program(conf, argv)
            stack.callback(program.close)
            status = program.main()
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
    if conf.dry_run and daemon:
        raise errors.ConfigError("--dry-run and --daemon should not be set together")
    if conf.dry_run and conf.restore:
        raise errors.ConfigError("--dry-run and --restore should not be set together")


def settings(conf: cfg.ConfigOpts) -> Settings:
    """The options of a run as they are now."""
    ours = conf[config.PROJECT]
    return Settings(
        ages=Ages(conf.scrub_time, ours.removed_location_age),
        claim_lease=ours.claim_lease,
        call_timeout=ours.call_timeout,
        page_size=ours.page_size,
        thresholds=Thresholds(ours.missing_threshold_count, ours.missing_threshold_percent),
        ignore_unreadable_live=ours.unreadable_live == "ignore",
        shutdown_timeout=ours.graceful_shutdown_timeout,
        patience=Patience(ours.retry_base, ours.retry_cap, ours.retry_attempts),
    )


class Program:
    """One process: its configuration, its connections, and what it was asked to do."""

    def __init__(self, conf: cfg.ConfigOpts, argv: Sequence[str]) -> None:
        self._conf = conf
        self._argv = argv
        self._slots = pool.Pool(conf.scrub_pool_size)
        self._stop = pool.Flag(self._slots.changed)
        self._stores = registry.build(conf)
        # One store that hangs must not hold the threads of all others.
        pool.native_threads(conf.scrub_pool_size * len(self._stores.drivers))
        self._healths = Healths()
        self._check_store_names()
        self._engine = Engine(conf.database, self._stop)
        self._ledger: Ledger = NoLedger()

    def _check_store_names(self) -> None:
        for option in ("store", "accept_missing"):
            for name in conf_list(self._conf, option):
                if not self._stores.knows(name):
                    flag = option.replace("_", "-")
                    raise errors.ConfigError(
                        f"--{flag} {name}: no such store; configured are "
                        f"{', '.join(self._stores.names)}"
                    )

    def main(self) -> int:
        if self._conf.restore:
            return self._restore(self._conf.restore)
        stopping = service.Stopping(
            self._stop,
            grace=lambda: self._conf[config.PROJECT].graceful_shutdown_timeout,
            reload=service.reloader(self._reload),
        )
        try:
            source = self._source(RehearsalSource if self._conf.dry_run else DatabaseSource)
            state = open_state(self._conf, self._stop, create=not self._conf.dry_run)
            self._ledger = ReopeningLedger(state, SqlLedger)
            if self._conf.dry_run or not self._conf.daemon:
                return self._once(source)
            service.serve(
                run_once=lambda: self._run(source),
                wakeup_time=lambda: self._conf.wakeup_time,
                stop=self._stop,
                changed=self._slots.changed,
                on_report=self._print_if_json,
            )
            return DONE
        finally:
            stopping.close()

    def close(self) -> None:
        self._stores.close()
        self._ledger.close()
        self._engine.close()

    def _source(self, kind: type[S]) -> S:
        source = kind(self._engine, self._conf.metadata_encryption_key)
        # At start a database that is down is said at once, not after half a minute.
        self._engine.patience, patience = 0.0, self._engine.patience
        try:
            pool.within(_START_SECONDS, source.check)
        except TimeoutError as late:
            raise errors.SourceUnavailable(f"the database does not answer: {late}") from None
        self._engine.patience = patience
        return source

    def _reload(self) -> None:
        config.reload(self._conf, self._argv, registry.check)
        self._slots.resize(self._conf.scrub_pool_size)

    # One run --------------------------------------------------------------------------

    def _run(self, source: DatabaseSource) -> reports.Report:
        report = reports.Report(reports.utcnow, rehearsal=self._conf.dry_run)
        return self._new_run(source, report).execute()

    def _new_run(self, source: DatabaseSource, report: reports.Report) -> Run:
        stores = self._stores
        if self._conf.dry_run:
            stores = stores.replaced_by(RehearsalDriver)
        return Run(
            source,
            stores,
            self._slots,
            self._stop,
            report,
            settings=lambda: settings(self._conf),
            selection=Selection(
                images=frozenset(conf_list(self._conf, "image")),
                stores=frozenset(conf_list(self._conf, "store")),
                owners=frozenset(conf_list(self._conf, "owner")),
            ),
            accept_missing=frozenset(conf_list(self._conf, "accept_missing")),
            healths=self._healths,
            ledger=self._ledger,
        )

    def _once(self, source: DatabaseSource) -> int:
        report = reports.Report(reports.utcnow, rehearsal=self._conf.dry_run)
        run = self._new_run(source, report)
        if self._conf.format == "text" and _on_terminal():
            with_progress(report, run.execute)
        else:
            run.execute()
        if report.failure:
            print(f"ERROR: {report.failure}", file=sys.stderr)
        if self._conf.format == "json":
            print_json(report.as_dict())
        elif _on_terminal() or report.rehearsal:
            text.print_report(report)
        else:
            print(text.summary(report))
        return _EXIT_STATUS[report.status]

    def _print_if_json(self, report: reports.Report) -> None:
        if self._conf.format == "json":
            print_json(report.as_dict(), indent=None)

    # Restore --------------------------------------------------------------------------

    def _restore(self, image: str) -> int:
        ours = self._conf[config.PROJECT]
        restorer = Restorer(
            self._source(RestoringSource), self._stores, ours.claim_lease, ours.call_timeout
        )
        restored = restorer.restore(image, wait=self._conf.wait, force=self._conf.force)
        for warning in restored.warnings:
            print(f"WARNING: {warning}", file=sys.stderr)
        if self._conf.format == "json":
            print_json(restored.as_dict())
        else:
            print(_restored_line(restored))
        return DONE


def _restored_line(restored: Restored) -> str:
    stores = ", ".join(copy.location.store or "its store" for copy in restored.copies)
    return f"Image {restored.image} is active again, with its bytes in {stores}."


def conf_list(conf: cfg.ConfigOpts, option: str) -> list[str]:
    values: list[str] = conf[option]
    return values


def print_json(document: dict[str, Any], indent: int | None = 2) -> None:
    print(json.dumps(document, indent=indent), flush=True)


def with_progress(report: reports.Report, execute: Callable[[], object]) -> None:
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
