"""What lies between a program and a server: it passes bytes on, and cuts connections by chance."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Self

from lab.processes import LOCALHOST

CHUNK = 1 << 16

#: What becomes of the piece that is on its way when a connection is cut.
WAYS = ("unsent", "half", "unanswered")


class Wire:
    """A port of its own in front of a server's, while it is entered.

    :ivar cuts: how often a connection was cut, by what became of the piece on its way: it never
        arrives, half of it does, or all of it and the answer gets lost.
    """

    def __init__(self, server: int, seed: str) -> None:
        """:param server: its port."""
        self.cuts: Counter[str] = Counter()
        self.port = 0
        self._server = server
        self._chance = random.Random(seed)
        self._share = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._connections: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)

    @contextmanager
    def cutting(self, share: float) -> Iterator[None]:
        """Meanwhile such a share of the pieces that clients send ends their connections."""
        self._share = share
        try:
            yield
        finally:
            self._share = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _listen(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        listening = await asyncio.start_server(self._accept, LOCALHOST, 0, backlog=1000)
        self.port = listening.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        listening.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._serve(client, back))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        writers = [back]
        try:
            answers, server = await asyncio.open_connection(LOCALHOST, self._server)
            writers.append(server)
            await _first_of(self._pass_on(client, server), _relay(answers, back))
        except OSError:
            pass  # nobody listens, or one of the two has gone: so has the other
        finally:
            # At once and without a word, as when a cable is pulled.
            for writer in writers:
                writer.transport.abort()

    async def _pass_on(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while piece := await client.read(CHUNK):
            way = self._chance.choice(WAYS) if self._chance.random() < self._share else ""
            server.write(_what_arrives(piece, way))
            await server.drain()
            if way:
                self.cuts[way] += 1
                # It arrives before the end does.
                await asyncio.sleep(0.02)
                return


def _what_arrives(piece: bytes, way: str) -> bytes:
    return {"unsent": b"", "half": piece[: len(piece) // 2]}.get(way, piece)


async def _first_of(*several: Coroutine[None, None, None]) -> None:
    """Until one of them ends; the others are told to."""
    tasks = [asyncio.ensure_future(one) for one in several]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _relay(answers: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    while piece := await answers.read(CHUNK):
        back.write(piece)
        await back.drain()
