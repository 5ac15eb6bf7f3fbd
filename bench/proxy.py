"""A process between a client and an HTTP server: it counts requests, and can make them wait.

``proxy.py LISTEN SERVER MILLISECONDS``: two ports of 127.0.0.1 and the round trip that the
network seems to have.  A new connection costs one round trip more, for its handshake.  At
SIGTERM it prints what it has counted, as JSON.
"""

import asyncio
import json
import re
import signal
import sys
from collections import Counter

LOCALHOST = "127.0.0.1"
CHUNK = 1 << 16
LONGEST_HEAD = 1 << 20


class Proxy:
    def __init__(self, server: int, round_trip: float) -> None:
        """:param round_trip: in seconds."""
        self.connections = 0
        self.requests: Counter[str] = Counter()
        self._server = server
        self._round_trip = round_trip

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self.connections += 1
        await asyncio.sleep(self._round_trip)
        answers, server = await asyncio.open_connection(LOCALHOST, self._server)
        try:
            await asyncio.gather(self._pass_requests(client, server), _relay(answers, back))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # one of the two has gone, and so does the other
        finally:
            server.close()
            back.close()

    async def _pass_requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        while head := await _head(client):
            self.requests[_kind(head)] += 1
            await asyncio.sleep(self._round_trip)
            server.write(head)
            left = _length(head)
            while left and (piece := await client.read(min(left, CHUNK))):
                server.write(piece)
                left -= len(piece)
            await server.drain()
        server.write_eof()


async def _relay(answers: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    while piece := await answers.read(CHUNK):
        back.write(piece)
        await back.drain()
    back.write_eof()


async def _head(client: asyncio.StreamReader) -> bytes:
    """A request up to its body; nothing at the end of the connection."""
    try:
        return await client.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        return end.partial


def _length(head: bytes) -> int:
    if re.search(rb"\r\ntransfer-encoding:", head, re.IGNORECASE):
        raise ValueError("a body in chunks is not understood")
    found = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    return int(found.group(1)) if found else 0


def _kind(head: bytes) -> str:
    """The method; requests to Keystone are of a kind of their own."""
    method, path, *_ = head.decode("latin-1").split(" ", 2)
    return f"{method} (auth)" if path.startswith(("/v3", "/auth/")) else method


async def main(listen: int, server: int, milliseconds: float) -> None:
    proxy = Proxy(server, milliseconds / 1000)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await asyncio.start_server(proxy.serve, LOCALHOST, listen, limit=LONGEST_HEAD, backlog=1000)
    await ended.wait()
    counted = {"connections": proxy.connections, "requests": dict(proxy.requests)}
    print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
