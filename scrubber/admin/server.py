"""Serves the admin API beside the scrubbing, which goes on whatever happens here."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from scrubber import pool
from scrubber.admin.address import Address
from scrubber.admin.authorisation import TokenFile
from scrubber.admin.control import Control
from scrubber.options import ADMIN_SECTION

LOG = logging.getLogger(__name__)

#: Seconds until a server that failed is started anew: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take; see the options of section [admin]."""

    connections: int
    seconds: float


def open_server(conf: cfg.ConfigOpts, control: Control) -> "Server | None":
    """The server that section [admin] describes; None if there is none.

    :raises ConfigError: the token file cannot be used.
    """
    options = conf[ADMIN_SECTION]
    if options.listen is None:
        return None
    token = TokenFile(options.token_file) if options.token_file else None
    if token:
        token.read()
    # Only where it is served: it takes a while to import.
    from scrubber.admin.application import create_app

    limits = Limits(options.max_connections, options.timeout)
    return Server(options.listen, create_app(control, token), limits)


class Server:
    """A green thread that serves until ``close``, and begins anew whenever that fails.

    A port that is taken is no reason not to scrub either: several scrubbers of a host may share
    a configuration, and the next one takes over when the first one ends.

    :ivar problem: why nothing is served now; None while all is well.
    :ivar failures: how often it had to begin anew.
    """

    def __init__(
        self,
        address: Address,
        app: Callable[..., Any],
        limits: Limits,
        sleep: Callable[[float], None] = pool.sleep,
    ) -> None:
        self._address = address
        self._app = app
        self._limits = limits
        self._sleep = sleep
        self._said: str | None = None
        self._listens = False
        self.problem: str | None = "it was not started yet"
        self.failures = 0
        self._task = pool.Task(self._work)

    def close(self) -> None:
        """Nobody is served any more; connections end where they are."""
        if self._listens:
            self._address.release()
        self._task.kill()

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            self.problem = self._serve()
            self.failures += 1
            self._warn(self.problem)
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _serve(self) -> str:
        """Until something goes wrong; what that was."""
        try:
            with self._address.listen() as listener:
                LOG.info("The admin API is at %s", self._address)
                self.problem, self._said, self._listens = None, None, True
                pool.serve_http(
                    listener,
                    self._app,
                    connections=self._limits.connections,
                    seconds=self._limits.seconds,
                )
            return "its socket was closed"
        except OSError as error:
            return error.strerror or str(error)
        except Exception as defect:
            LOG.exception("A defect in scrubber")
            return f"a defect in scrubber: {type(defect).__name__}"
        finally:
            self._listens = False

    def _warn(self, problem: str) -> None:
        """Each reason once, not with each try."""
        if problem != self._said:
            self._said = problem
            LOG.warning(
                "The admin API cannot be served at %s (option listen in section [%s]): %s. "
                "Scrubbing goes on, and this is tried again.",
                self._address,
                ADMIN_SECTION,
                problem,
            )
