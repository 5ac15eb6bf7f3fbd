"""What lies between a program and a server: it passes bytes on, and cuts connections by chance."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

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
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        # The loop is left with connections that are open, and ends them with its thread.
        with suppress(RuntimeError):
            asyncio.set_event_loop(self._loop)
            listening = self._loop.run_until_complete(
                asyncio.start_server(self._serve, LOCALHOST, 0)
            )
            self.port = listening.sockets[0].getsockname()[1]
            self._ready.set()
            self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection(LOCALHOST, self._server)
        except OSError:
            back.transport.abort()
            return
        try:
            await asyncio.wait(
                [
                    asyncio.ensure_future(self._pass_on(client, server)),
                    asyncio.ensure_future(_relay(answers, back)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            # At once and without a word, as when a cable is pulled.
            back.transport.abort()
            server.transport.abort()

    async def _pass_on(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
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


async def _relay(answers: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await answers.read(CHUNK):
            back.write(piece)
            await back.drain()
