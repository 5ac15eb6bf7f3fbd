"""An S3 server in trouble: ``odd_s3.py PORT KIND``.

KIND is ``hanging`` or ``throttled`` (always asks for patience, never says for how long); with
`` in deletes`` it answers HEAD and GET as if every object were there, and only deletes meet that.
"""

import asyncio
import sys

OK = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 64\r\nETag: "x"\r\n'
    b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
)
LISTING = b"<ListBucketResult><Contents><Key>one</Key><Size>64</Size></Contents></ListBucketResult>"
LISTED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(LISTING), LISTING)
SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"


async def serve(kind: str, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await client.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await client.readexactly(int(line.partition(b":")[2]))
            if head.startswith(b"HEAD") and kind.endswith("in deletes"):
                back.write(OK)
            elif head.startswith(b"GET") and kind.endswith("in deletes"):
                back.write(LISTED)
            elif kind.startswith("hanging"):
                await asyncio.sleep(3600)
            else:
                await asyncio.sleep(0.005)
                back.write(SLOW_DOWN)
            await back.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the client has gone
    finally:
        back.close()


async def main(port: int, kind: str) -> None:
    server = await asyncio.start_server(
        lambda client, back: serve(kind, client, back), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
