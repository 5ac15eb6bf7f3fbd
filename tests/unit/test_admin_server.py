"""Where the admin API is served, what clients may take there, and that it comes back.

Nothing here is monkey patched: clients are native threads, the server is a green one.
"""

import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from lab.fake_control import FakeControl
from lab.processes import free_port
from scrubber import config, errors, pool
from scrubber.admin.address import Address, ListenOption, TcpAddress, UnixAddress
from scrubber.admin.server import Limits, Server, open_server

pytestmark = pytest.mark.timeout(30)


LIMITS = Limits(connections=8, seconds=5)


def hello(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def connect(address: Address) -> socket.socket:
    if isinstance(address, UnixAddress):
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(address.path)
        except OSError:
            client.close()
            raise
        return client
    return socket.create_connection((address.host, address.port))


def ask(address: Address, request: bytes = b"GET / HTTP/1.0\r\n\r\n") -> bytes:
    """What a client is answered, while the green threads go on."""
    answer: list[bytes] = []

    def client() -> None:
        with closing(connect(address)) as connection:
            connection.sendall(request)
            answer.append(connection.makefile("rb").read())

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    while thread.is_alive():
        pool.sleep(0.01)
    return answer[0] if answer else b""


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def wait_for(condition: Callable[[], object]) -> None:
    while not condition():
        pool.sleep(0.01)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(stack: ExitStack) -> Callable[..., Server]:
    def serve(address: Address, app: Any = hello, limits: Limits = LIMITS) -> Server:
        server = Server(address, app, limits, sleep=lambda _seconds: pool.sleep(0.01))
        stack.callback(server.close)
        return server

    return serve


@pytest.fixture
def port() -> TcpAddress:
    return TcpAddress("127.0.0.1", free_port())


@pytest.fixture
def path(tmp_path: Path) -> UnixAddress:
    return UnixAddress(str(tmp_path / "admin.sock"))


# Addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", None),
        ("127.0.0.1:9810", TcpAddress("127.0.0.1", 9810)),
        ("localhost:9810", TcpAddress("127.0.0.1", 9810)),
        ("0.0.0.0:1", TcpAddress("0.0.0.0", 1)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        (" unix:/run/scrubber/admin.sock ", UnixAddress("/run/scrubber/admin.sock")),
    ],
)
def test_addresses_as_operators_write_them(text: str, address: Address | None) -> None:
    assert ListenOption()(text) == address
    if address:
        assert ListenOption()(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "9810",
        ":9810",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:x",
        "::1:9810",
        "[127.0.0.1]:9810",
        "mylocalhost:9810",
        "host.example:9810",
        "http://127.0.0.1:9810",
        "unix:",
        "unix:admin.sock",
        "unix:/run/",
        "unix:/" + 107 * "x",
        "unix:/" + 98 * "x" + "/y",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9810|/run/scrubber/admin\.sock|too long"):
        ListenOption()(text)


def test_a_bad_address_is_said_with_its_section_and_file(tmp_path: Path) -> None:
    file = tmp_path / "scrubber.conf"
    file.write_text("[admin]\nlisten = 9810\n")
    with pytest.raises(errors.ConfigError, match=r"listen in section \[admin\] in .*scrubber.conf"):
        config.load(["--config-file", str(file)])


def test_a_port_is_shared_with_nobody(port: TcpAddress) -> None:
    with closing(port.listen()), pytest.raises(OSError, match="in use"):
        port.listen()


def test_only_user_and_group_may_use_the_socket(path: UnixAddress, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(path.listen()):
            assert stat.S_IMODE(os.stat(path.path).st_mode) == 0o660
            assert os.listdir(tmp_path) == ["admin.sock"]
    finally:
        os.umask(before)


def test_a_socket_that_cannot_be_made_leaves_nothing(
    path: UnixAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_names: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        path.listen()
    assert os.listdir(tmp_path) == []


def test_the_socket_of_a_dead_process_is_replaced(path: UnixAddress) -> None:
    path.listen().close()
    assert os.path.exists(path.path)
    with closing(path.listen()), closing(connect(path)):
        pass


def test_the_socket_of_a_living_process_is_left_alone(path: UnixAddress) -> None:
    with closing(path.listen()):
        with pytest.raises(OSError, match="another process listens"):
            path.listen()
        connect(path).close()


def test_what_is_no_socket_is_left_alone(path: UnixAddress, tmp_path: Path) -> None:
    (tmp_path / "admin.sock").write_text("precious")
    with pytest.raises(OSError, match="is no socket"):
        path.listen()
    assert (tmp_path / "admin.sock").read_text() == "precious"
    assert os.listdir(tmp_path) == ["admin.sock"]


# Serving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["port", "path"])
def test_requests_are_answered(
    serve: Callable[..., Server], request: pytest.FixtureRequest, kind: str
) -> None:
    address = request.getfixturevalue(kind)
    server = serve(address)
    wait_for(lambda: server.problem is None)
    assert ask(address).endswith(b"hello")
    server.close()
    with pytest.raises(OSError):
        connect(address)
    if isinstance(address, UnixAddress):
        assert not os.path.exists(address.path)


def test_clients_that_say_nothing_keep_nobody_out(
    serve: Callable[..., Server], port: TcpAddress, stack: ExitStack
) -> None:
    """Three times as many as there are places, and none of them is in a hurry."""
    server = serve(port, limits=Limits(connections=8, seconds=3600))
    wait_for(lambda: server.problem is None)
    silent = [stack.enter_context(closing(connect(port))) for _ in range(24)]
    assert ask(port).endswith(b"hello")
    # The oldest were hung up on, not the newest.
    assert silent[0].recv(1) == b""
    silent[-1].setblocking(False)
    with pytest.raises(BlockingIOError):
        silent[-1].recv(1)


def test_who_says_a_word_now_and_then_is_hung_up_on_too(
    serve: Callable[..., Server], port: TcpAddress, stack: ExitStack
) -> None:
    server = serve(port, limits=Limits(connections=8, seconds=0.5))
    wait_for(lambda: server.problem is None)
    slow = stack.enter_context(closing(connect(port)))
    slow.setblocking(False)
    slow.send(b"GET / HTTP/1.0\r\nX-Header: ")

    def is_over() -> bool:
        try:
            slow.send(b"x")
            return slow.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    wait_for(is_over)


def test_who_never_reads_the_answer_is_hung_up_on(
    serve: Callable[..., Server], port: TcpAddress, stack: ExitStack
) -> None:
    ended: list[bool] = []

    def endless(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x" * 8192
        finally:
            ended.append(True)

    server = serve(port, endless, Limits(connections=8, seconds=0.5))
    wait_for(lambda: server.problem is None)
    client = stack.enter_context(closing(connect(port)))
    before = descriptors()
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    wait_for(lambda: descriptors() > before)
    wait_for(lambda: ended and descriptors() == before)


def test_a_connection_that_breaks_is_no_event(capfd: pytest.CaptureFixture[str]) -> None:
    def serve(ended: list[bool]) -> None:
        ended.append(True)
        raise OSError("connection timed out")

    ended: list[bool] = []
    pool._Connections(1, 1).spawn(serve, ended)
    wait_for(lambda: ended)
    pool.sleep()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\n" + b"X: " + b"y" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.0\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_nonsense_ends_its_own_connection_only(
    serve: Callable[..., Server],
    port: TcpAddress,
    request_: bytes,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = serve(port, limits=Limits(8, 1))
    wait_for(lambda: server.problem is None)
    with suppress(OSError):
        assert b"hello" not in ask(port, request_)
    assert ask(port).endswith(b"hello")
    assert server.failures == 0
    assert "Traceback" not in capfd.readouterr().err


def test_an_application_that_fails_says_nothing_of_itself(
    serve: Callable[..., Server], port: TcpAddress, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_environ: Any, _start_response: Any) -> list[bytes]:
        raise RuntimeError("secret")

    server = serve(port, broken)
    wait_for(lambda: server.problem is None)
    answer = ask(port)
    assert b" 500 " in answer
    assert b"secret" not in answer
    assert capfd.readouterr().err == ""


# Coming back --------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_said_once_and_tried_again(
    serve: Callable[..., Server], port: TcpAddress, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with closing(port.listen()):
        server = serve(port)
        wait_for(lambda: server.failures > 3)
        assert server.problem == "Address already in use"
    wait_for(lambda: server.problem is None)
    assert ask(port).endswith(b"hello")
    warnings = [at for at in caplog.records if at.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"at {port} (option listen in section [admin])" in warnings[0].getMessage()


def test_a_server_that_breaks_is_back_soon(
    serve: Callable[..., Server], port: TcpAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = pool.serve_http
    broken = [OSError(24, "Too many open files"), RuntimeError("a defect")]

    def serve_http(*args: Any, **kwargs: Any) -> None:
        if broken:
            raise broken.pop()
        really(*args, **kwargs)

    monkeypatch.setattr(pool, "serve_http", serve_http)
    server = serve(port)
    wait_for(lambda: server.failures == 2)
    wait_for(lambda: server.problem is None)
    assert ask(port).endswith(b"hello")


def test_waiting_for_a_port_takes_longer_each_time(port: TcpAddress) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        pool.sleep()

    with closing(port.listen()):
        server = Server(port, hello, Limits(1, 1), sleep=sleep)
        wait_for(lambda: len(pauses) >= 8)
        server.close()
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


# As configured ------------------------------------------------------------------------------


def configured(tmp_path: Path, *lines: str) -> Any:
    file = tmp_path / "scrubber.conf"
    file.write_text("\n".join(["[admin]", *lines]))
    return config.load(["--config-file", str(file)])


def test_an_empty_address_serves_nothing(tmp_path: Path) -> None:
    assert open_server(configured(tmp_path, "listen ="), FakeControl()) is None


def test_a_token_file_that_cannot_be_used_is_said_at_start(tmp_path: Path) -> None:
    conf = configured(tmp_path, f"token_file = {tmp_path}/none")
    with pytest.raises(errors.ConfigError, match="token_file"):
        open_server(conf, FakeControl())


def test_what_is_configured_is_served(tmp_path: Path, path: UnixAddress, stack: ExitStack) -> None:
    server = open_server(configured(tmp_path, f"listen = {path}"), FakeControl())
    assert server is not None
    stack.callback(server.close)
    wait_for(lambda: server.problem is None)
    assert ask(path, b"GET /livez HTTP/1.0\r\n\r\n").endswith(b'{"status": "live"}')
    # Over the unix socket clients may do everything.
    assert b" 202 " in ask(path, b"POST /v1/runs HTTP/1.0\r\n\r\n")
