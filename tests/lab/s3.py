"""S3 servers: rclone's, which checks signatures, and a proxy in front of one that misbehaves."""

import contextlib
import datetime
import http.client
import ipaddress
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab import Unavailable
from lab.processes import LOCALHOST, Child, Service, accepts_connections, free_port

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Certificate:
    """A server's certificate and key, signed by itself: it is its own CA."""

    certificate: Path
    key: Path


class S3Account:
    """Keys to an S3 server, and what goes with them."""

    def __init__(
        self, url: str, access_key: str, secret_key: str, cacert: Path | None = None
    ) -> None:
        self.url = url
        self.access_key = access_key
        self.secret_key = secret_key
        self.cacert = cacert

    def options(self, bucket: str, **others: str) -> dict[str, str]:
        """The section of a store in this account."""
        return {
            "s3_store_host": self.url,
            "s3_store_access_key": self.access_key,
            "s3_store_secret_key": self.secret_key,
            "s3_store_bucket": bucket,
            "s3_store_bucket_url_format": "path",
            **others,
        }

    @cached_property
    def owner(self) -> Any:
        """A boto3 client with all rights."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=str(self.cacert) if self.cacert else None,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
            ),
        )


class S3Server(S3Account, Service):
    """``rclone serve s3``: buckets are directories; ``with`` starts and stops it.

    Its keys are random: whatever shows one of them leaks it.
    """

    def __init__(self, directory: Path, tls: Certificate | None = None) -> None:
        self._rclone = _rclone()
        self._directory = directory
        self._tls = ("--cert", tls.certificate, "--key", tls.key) if tls else ()
        self._child: Child | None = None
        self.port = free_port()
        super().__init__(
            f"{'https' if tls else 'http'}://{LOCALHOST}:{self.port}",
            access_key=f"ACCESS{secrets.token_hex(8)}",
            secret_key=f"SECRET{secrets.token_hex(16)}",
            cacert=tls and tls.certificate,
        )

    def start(self) -> None:
        data = self._directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._child = Child(
            [
                *(self._rclone, "serve", "s3", data),
                *("--config", os.devnull, "--cache-dir", self._directory / "cache"),
                *("--addr", f"{LOCALHOST}:{self.port}"),
                # An empty directory is an empty bucket.
                "--no-cleanup",
                *self._tls,
            ],
            log=self._directory / "log",
            # Not in the command line, which every user of the machine can read.
            environment={"RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"'},
        )
        self._child.wait_ready(lambda: accepts_connections(self.port))

    def stop(self) -> None:
        self.owner.close()
        if self._child is not None:
            self._child.stop()


def _rclone() -> Path:
    default = REPOSITORY / ".tox" / "stores" / "bin" / "python"
    python = Path(os.environ.get("SCRUBBER_STORES_PYTHON") or default)
    program = python.with_name("rclone")
    if not program.exists():
        raise Unavailable(f"no S3 server: {program} does not exist (tox -e stores makes it)")
    return program


def self_signed(directory: Path) -> Certificate:
    """For a server on 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + 24 * hour)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOCALHOST))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


@dataclass(frozen=True)
class Request:
    """What a client has sent to the proxy."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What the proxy sends back.

    :param cut: the connection ends after half of the body; after that of the first line, where
        there is no body, in the answer to a HEAD.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


#: Given the request and a way to pass it on: the reply, or None for a connection that is reset.
Fault = Callable[[Request, Callable[[], Reply]], Reply | None]

_OF_ONE_HOP = frozenset({"connection", "content-length", "transfer-encoding", "date", "server"})


class Proxy:
    """Passes requests on to a server, counts them, and misbehaves as it is told to."""

    def __init__(self, upstream: int) -> None:
        """:param upstream: the port of the server."""
        self.requests: list[Request] = []
        self.connections = 0
        #: Set at the end: whoever hangs may go.
        self.released = threading.Event()
        self._upstream = upstream
        self._fault: Fault | None = None
        proxy = self

        class Handler(_Handler):
            def setup(self) -> None:
                proxy.connections += 1
                super().setup()

            def handle_one(self, request: Request) -> Reply | None:
                return proxy._handle(request)

        self._server = _Server((LOCALHOST, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def failing(self, fault: Fault | Reply | None, method: str = "") -> Iterator[None]:
        """Every request (of that method) meets this fault; None resets its connection."""

        def answer(request: Request, forward: Callable[[], Reply]) -> Reply | None:
            if method not in ("", request.method):
                return forward()
            return fault(request, forward) if callable(fault) else fault

        self._fault = answer
        try:
            yield
        finally:
            self._fault = None

    def forget(self) -> None:
        """Count from here."""
        self.requests.clear()
        self.connections = 0

    def _handle(self, request: Request) -> Reply | None:
        self.requests.append(request)
        if self._fault is None:
            return self._forward(request)
        return self._fault(request, lambda: self._forward(request))

    def _forward(self, request: Request) -> Reply:
        connection = http.client.HTTPConnection(LOCALHOST, self._upstream)
        with contextlib.closing(connection):
            connection.putrequest(
                request.method, request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                if name.lower() != "connection":
                    connection.putheader(name, value)
            connection.endheaders(request.body or None)
            response = connection.getresponse()
            kept = {
                name: value
                for name, value in response.getheaders()
                if name.lower() not in _OF_ONE_HOP
            }
            if request.method == "HEAD":
                kept["Content-Length"] = response.headers["Content-Length"] or "0"
            return Reply(response.status, response.read(), kept)


class _Server(ThreadingHTTPServer):
    """Threads end with their connections, which the tests close."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in two packets meet delayed acknowledgements otherwise.
    disable_nagle_algorithm = True

    def handle_one(self, request: Request) -> Reply | None:
        raise NotImplementedError

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.handle_one(Request(self.command, self.path, dict(self.headers), body))
        if reply is None:
            self._reset()
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        if reply.cut and self.command == "HEAD":
            self.wfile.write(b"HTTP/1.1 200")
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
        self.close_connection = self.close_connection or reply.cut

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # the kernel sends a reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        """Tests look at ``Proxy.requests``."""
