"""One worker: scrubs when its supervisor says so, and says how far it is."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict

from scrubber import __version__, config, errors, pool, signals
from scrubber.options import PROJECT
from scrubber.orders import StoreOrder
from scrubber.process import Process
from scrubber.reporting.audit import AuditTrail, open_trail
from scrubber.run import Run
from scrubber.workers.messages import (
    Alive,
    Begin,
    Cancel,
    Channel,
    Ended,
    Failed,
    Message,
    Order,
    Ready,
    Reload,
    Stop,
)

LOG = logging.getLogger(__name__)

#: Between two signs of life; longer where a report is so large that telling it would cost more
#: than one part of so many of the time.
TELL_SECONDS, TELL_PART = 0.5, 50


def main(argv: Sequence[str]) -> int:
    """The program of a worker; standard input is the channel to its supervisor.

    :param argv: its number, how many workers there are, and the supervisor's command line.
    """
    _number, size, *words = argv
    channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=0))
    try:
        _work(words, int(size), channel)
    except errors.ScrubberError as error:
        channel.send(Failed(str(error)))
        return 1
    except Exception as defect:
        LOG.exception("A defect in scrubber")
        channel.send(Failed(f"a defect in scrubber: {type(defect).__name__}"))
        return 1
    return 0


def _work(argv: Sequence[str], size: int, channel: Channel) -> None:
    conf = config.load(argv)
    config.setup_logging(conf)
    with (
        closing(open_trail(conf, is_daemon=conf.daemon)) as audit,
        closing(Process(conf, argv, audit, share=1 / size)) as process,
    ):
        handlers = signals.Handlers(
            process.stop,
            grace=lambda: conf[PROJECT].graceful_shutdown_timeout,
            reload=signals.reloader(process.reload),
            # It may come from the supervisor and from whoever signals all of a service.
            leaves_at_second=False,
        )
        try:
            process.open()
            Worker(process, channel, audit).serve()
        finally:
            handlers.close()


class Worker:
    """A process that scrubs when it is told to."""

    def __init__(self, process: Process, channel: Channel, audit: AuditTrail) -> None:
        self._process = process
        self._channel = channel
        self._audit = audit
        self._next: Run | None = None
        self._reload = signals.reloader(process.reload)

    def serve(self) -> None:
        """Until it is to stop, or the supervisor is gone."""
        process = self._process
        tasks = [pool.Task(self._listen), pool.Task(self._keep_telling)]
        self._channel.send(Ready(__version__))
        try:
            while not process.stop:
                run, self._next = self._next, None
                if run is not None:
                    self._scrub(run)
                else:
                    process.slots.changed.wait()
        finally:
            for task in tasks:
                task.kill()

    def _scrub(self, run: Run) -> None:
        report = self._process.carry_out(run)
        self._tell()  # what the stores' figures are at its end
        self._channel.send(Ended(report.as_dict(), sorted(run.elsewhere)))

    # What the supervisor says ---------------------------------------------------------

    def _listen(self) -> None:
        for message in self._channel:
            try:
                self._obey(message)
            except Exception:
                LOG.exception(
                    "A defect in scrubber: this worker cannot do as it was told, and ends"
                )
                _terminate()  # so that somebody else does it
        if not self._process.stop:
            LOG.warning("The supervisor of this worker is gone: the worker ends.")
            _terminate()

    def _obey(self, message: Message) -> None:
        match message:
            case Begin(run, trigger, first):
                self._next = self._process.new_part(run, trigger, first)
                self._process.slots.changed.ring()
            case Cancel():
                if self._next is not None:
                    self._next.cancel()
                self._process.cancel()
            case Order(stores):
                orders = {store: StoreOrder(**fields) for store, fields in stores.items()}
                self._process.orders.replace(orders)
            case Reload():
                self._reload()
            case Stop():
                _terminate()

    # What it says ---------------------------------------------------------------------

    def _keep_telling(self) -> None:
        while True:
            took = _timed(self._tell)
            pool.sleep(max(TELL_SECONDS, TELL_PART * took))

    def _tell(self) -> None:
        process = self._process
        figures = {
            driver.store: process.figures(driver) for driver in process.stores.drivers.values()
        }
        self._channel.send(
            Alive(
                slots=process.slots.size,
                slots_busy=process.slots.running,
                audit_lost=self._audit.lost,
                stores={store: asdict(at) for store, at in figures.items()},
                report=process.run.report.as_dict() if process.run else None,
            )
        )


def _timed(function: Callable[[], None]) -> float:
    began = time.thread_time()
    function()
    return time.thread_time() - began


def _terminate() -> None:
    """As by a signal: what is in flight has the same time to end."""
    os.kill(os.getpid(), signal.SIGTERM)
