"""Green threads, native threads, waiting and signals: the one module that imports eventlet.

Everything else asks this module, so another library can take eventlet's place
by changing one file.  Waiting is always on something that can be woken.
"""

import atexit
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, ParamSpec, TypeVar

# Said at each import and each fork; the reason why this is the only importer.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")


@contextmanager
def _without(module: str, variable: str) -> Iterator[None]:
    """Import as if the module were not installed, and the environment variable said yes."""
    before = os.environ.get(variable)
    os.environ[variable] = "yes"
    hidden = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]
        del os.environ[variable]
        if before is not None:
            os.environ[variable] = before


# The sockets of pyOpenSSL are nobody's here, and names are looked up by few: both together take
# as long to import as all else that a run needs which finds nothing to do.
with _without("OpenSSL", "EVENTLET_NO_GREENDNS"):
    import eventlet
    import eventlet.event
    import eventlet.green.os
    import eventlet.green.socket
    import eventlet.semaphore
    import eventlet.support.greenlets
    import eventlet.tpool

LOG = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# tpool would print each exception of a driver with its traceback on stderr.
eventlet.tpool.QUIET = True

# At exit eventlet would wait for each of its threads, and for ever for one whose call hangs in a
# file system without a server.  They are daemons: they end with the process.
atexit.unregister(eventlet.tpool.killall)

#: Native threads for blocking store calls; eventlet fixes their number at first use.
_NATIVE_THREADS = (20, 256)


def patch() -> None:
    """Make the standard library's sockets, sleeps and locks green; first thing in a program."""
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(eventlet.green.socket, name, _looked_up(name))
    eventlet.monkey_patch()


def _looked_up(name: str) -> Callable[..., Any]:
    """A function that looks up hosts, and lets other green threads run while it waits."""
    native: Callable[..., Any] = getattr(socket, name)

    def look_up(host: str | bytes | None, *args: Any, **kwargs: Any) -> Any:
        if _is_address(host) or os.environ.get("EVENTLET_NO_GREENDNS", "").lower() == "yes":
            return native(host, *args, **kwargs)
        import eventlet.support.greendns

        return getattr(eventlet.support.greendns, name)(host, *args, **kwargs)

    return look_up


def _is_address(host: str | bytes | None) -> bool:
    """Whether it is known without asking anybody."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not text or text == "localhost":
        return True
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def native_threads(wanted: int) -> None:
    """Say how many blocking calls may run at once; without effect after the first call."""
    least, most = _NATIVE_THREADS
    eventlet.tpool.set_num_threads(min(most, max(least, wanted)))


def blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call that blocks in a native thread; other green threads go on.

    The function must be bare operating-system or C calls: a log line, a metric or
    any other lock taken in a native thread can hang the process.
    """

    result: T = eventlet.tpool.execute(function, *args, **kwargs)
    return result


def sleep(seconds: float = 0) -> None:
    """Let the other green threads run; with 0 just once round."""
    eventlet.sleep(seconds)


def within(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function, giving up the wait after so many seconds.

    :raises TimeoutError: in place of eventlet's Timeout, which no ``except Exception`` catches.
    """
    timeout = eventlet.Timeout(seconds)
    try:
        return function(*args, **kwargs)
    except eventlet.Timeout as mine:
        if mine is not timeout:
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    finally:
        timeout.cancel()


def stacks() -> list[str]:
    """What every green thread does, each as the lines of a traceback; the caller's own apart."""
    kind = eventlet.support.greenlets.greenlet
    hub = eventlet.hubs.get_hub().greenlet
    # The oldest two by name: the garbage collector shows nothing that was frozen.
    threads = {hub, hub.parent, *(at for at in gc.get_objects() if isinstance(at, kind))}
    # Those that have not begun, or are over, or run right now, have no frame.
    frames = [at.gr_frame for at in threads if at.gr_frame is not None]
    return ["".join(traceback.format_stack(frame)) for frame in frames]


def native_stacks() -> list[str]:
    """What every native thread does; in the hub's own, what runs there now."""
    frames = sys._current_frames().values()
    return ["".join(traceback.format_stack(frame)) for frame in frames]


class Bell:
    """Wakes all who wait.  Look at what you wait for, then wait: nothing runs in between."""

    def __init__(self) -> None:
        self._event: Any = None  # until somebody waits: most rings wake nobody

    def ring(self) -> None:
        rung, self._event = self._event, None
        if rung is not None:
            rung.send()

    def wait(self, seconds: float | None = None) -> None:
        """Until the next ring, at most so many seconds."""
        if self._event is None:
            self._event = eventlet.event.Event()
        self._event.wait(timeout=seconds)


class Flag:
    """Set once, seen by all: "stop" and its like.  Rings the given bells too."""

    def __init__(self, *bells: "Bell") -> None:
        self._bell = Bell()
        self._bells = bells
        self._set_at: float | None = None

    def set(self) -> None:
        if self._set_at is None:
            self._set_at = time.monotonic()
            for bell in (self._bell, *self._bells):
                bell.ring()

    def __bool__(self) -> bool:
        return self._set_at is not None

    @property
    def set_for(self) -> float:
        """Seconds since it was set, 0 if it is not."""
        return 0.0 if self._set_at is None else time.monotonic() - self._set_at

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it was set before the seconds were over."""
        if not self:
            self._bell.wait(seconds)
        return bool(self)


class Lock:
    """Lets one green thread at a time through ``with``."""

    def __init__(self) -> None:
        self._semaphore = eventlet.semaphore.Semaphore()

    def __enter__(self) -> None:
        self._semaphore.acquire()

    def __exit__(self, *_exception: object) -> None:
        self._semaphore.release()


class Task:
    """A green thread in the background."""

    def __init__(self, function: Callable[..., object], *args: Any) -> None:
        self._thread = eventlet.spawn(function, *args)

    def join(self) -> None:
        """Wait for its end; raises what it raised."""
        self._thread.wait()

    def kill(self) -> None:
        self._thread.kill()


def ahead(pages: Iterable[T]) -> Iterator[T]:
    """The same pages; the next one is asked for before one is handed out.

    So whoever answers is at work while that one is.
    """
    source, fetched, failed = iter(pages), list[T](), list[Exception]()

    def fetch() -> None:
        try:
            fetched.extend(islice(source, 1))
        except Exception as failure:  # eventlet prints what a task raises
            failed.append(failure)

    task = Task(fetch)
    try:
        while True:
            task.join()
            if failed:
                raise failed.pop()
            if not fetched:
                return
            page = fetched.pop()
            task = Task(fetch)
            sleep()  # until it has asked
            yield page
    finally:
        task.kill()


class Pool:
    """A GreenPool that can be resized while it works and never blocks who spawns.

    GreenPool's own ``spawn`` blocks when full, does not notice a larger size until a
    task ends, and hangs in ``waitall`` beside a blocked spawner.  So callers look at
    ``free`` first and wait on ``changed``, which a task's end and a resize both ring.
    """

    def __init__(self, size: int) -> None:
        self._pool = eventlet.GreenPool(size)
        self._size = size
        self._lent = 0
        self.changed = Bell()

    @property
    def size(self) -> int:
        """Slots, those apart that are lent for a while."""
        return self._size

    @property
    def running(self) -> int:
        return int(self._pool.running())

    @property
    def free(self) -> int:
        """Slots that can be taken now; after a shrink old tasks may still hold more."""
        return max(0, self._size + self._lent - self.running)

    @property
    def is_too_full(self) -> bool:
        """Whether more tasks run than it has slots by now: after a shrink."""
        return self.running > self._size + self._lent

    def resize(self, size: int) -> None:
        self._size = size
        self._pool.resize(size + self._lent)
        self.changed.ring()

    def lend(self, slots: int) -> None:
        """So many slots more, in place of as many that are held by tasks that hang."""
        if slots != self._lent:
            self._lent = slots
            self._pool.resize(self._size + slots)

    def spawn(self, function: Callable[..., object], *args: Any) -> None:
        """Run it in a slot of its own; only when one is ``free``."""
        assert self.free, "spawn without a free slot would block"
        self._pool.spawn(function, *args).link(self._ended)

    def _ended(self, _thread: object) -> None:
        self.changed.ring()  # the GreenPool's own link came first: the slot is free


class Signals:
    """Calls a handler, in a green thread, for each signal; wakes the hub at once.

    ``at_once`` runs in the signal handler itself, so even while the hub is busy.
    """

    def __init__(
        self,
        handlers: dict[signal.Signals, Callable[[], object]],
        at_once: Callable[[signal.Signals], None],
    ) -> None:
        self._handlers = handlers
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {
            number: signal.signal(number, lambda got, _frame: at_once(signal.Signals(got)))
            for number in handlers
        }
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._task = Task(self._listen)

    def _listen(self) -> None:
        while True:
            for number in _known(eventlet.green.os.read(self._read, 512)):
                if handler := self._handlers.get(number):
                    handler()

    def close(self) -> None:
        """Give the signals back to whom they had before."""
        self._task.kill()
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)


def _known(numbers: Iterable[int]) -> list[signal.Signals]:
    return [signal.Signals(number) for number in sorted(set(numbers))]


# HTTP -----------------------------------------------------------------------------------


class _Connections:
    """What eventlet's WSGI server takes for its pool: no client keeps the others out.

    A connection lives so many seconds at most; where all places are taken, the oldest one
    loses its own.  GreenPool would let new clients wait behind those that say nothing.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._open: dict[Any, None] = {}  # in the order of their arrival

    def spawn(self, function: Callable[..., object], *args: Any) -> Any:
        while len(self._open) >= self._most:
            self._hang_up(next(iter(self._open)))
        thread = eventlet.spawn(self._serve, function, *args)
        self._open[thread] = None
        thread.link(self._ended)
        return thread

    def _serve(self, function: Callable[..., object], *args: Any) -> None:
        with eventlet.Timeout(self._seconds, False):
            try:
                function(*args)
            except Exception as gone:  # the application's own were answered already
                LOG.debug("A connection broke: %s", gone)

    def _ended(self, thread: Any) -> None:
        self._open.pop(thread, None)

    def _hang_up(self, thread: Any) -> None:
        self._open.pop(thread, None)
        thread.kill()

    def waitall(self) -> None:
        """The server ends: so do they."""
        for thread in list(self._open):
            self._hang_up(thread)


def serve_http(
    listener: socket.socket, app: Callable[..., Any], *, connections: int, seconds: float
) -> None:
    """Answer requests with a WSGI application, one per connection, until the listener breaks.

    :param connections: the most at a time; one more ends the oldest.
    :param seconds: the longest that one may take, and that it may be silent for.
    :raises OSError: no connection can be accepted; the listener is closed.
    """
    import eventlet.greenio
    import eventlet.wsgi

    if not isinstance(listener, eventlet.greenio.GreenSocket):
        listener = eventlet.greenio.GreenSocket(listener)
    eventlet.wsgi.server(
        listener,
        app,
        custom_pool=_Connections(connections, seconds),
        socket_timeout=seconds,  # also for what is left to be said when the time is over
        keepalive=False,
        log_output=False,
        debug=False,  # no traceback for clients
    )
