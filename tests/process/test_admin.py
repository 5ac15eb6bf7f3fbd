"""The admin API in a process of its own, against clients that mean well and clients that do not."""

import json
import shutil
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from lab import http_over_unix
from lab.processes import LOCALHOST, Child, accepts_connections, free_port, wait_until

HERE = Path(__file__).parent
PROGRAM = HERE / "admin_program.py"

Serve = Callable[..., Child]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def serve(listen: object, *before: str, **options: object) -> Child:
            file = tmp_path / "scrubber.conf"
            lines = [f"{name} = {value}" for name, value in {"listen": listen, **options}.items()]
            file.write_text("\n".join(["[admin]", *lines]))
            argv = [*before, sys.executable, PROGRAM, "--config-file", file]
            log = tmp_path / "log"
            log.unlink(missing_ok=True)
            paths = f"{HERE.parent}:{HERE.parents[1]}"
            child = Child(argv, log=log, environment={"PYTHONPATH": paths})
            stack.callback(child.stop)
            child.wait_ready(lambda: "serving" in log.read_text())
            return child

        yield serve


def answers(path: Path) -> bool:
    try:
        return http_over_unix.ask(path, "GET", "/livez").status == 200
    except OSError:
        return False


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{LOCALHOST}:{port}{path}", timeout=10) as response:
        text: str = response.read().decode()
    return text


def test_more_silent_clients_than_descriptors_are_got_over(serve: Serve) -> None:
    port = free_port()
    limit = shutil.which("prlimit")
    if limit is None:
        pytest.skip("prlimit is not installed (util-linux)")
    child = serve(f"{LOCALHOST}:{port}", limit, "--nofile=64", max_connections=1024, timeout=3600)
    wait_until(lambda: accepts_connections(port), what="the admin API")
    with ExitStack() as stack:
        for _ in range(100):
            try:
                client = socket.create_connection((LOCALHOST, port), timeout=1)
            except OSError:
                break  # it does not listen just now
            stack.enter_context(closing(client))
        wait_until(lambda: "Too many open files" in child.log_tail(), what="the end of it")

    def answers_again() -> bool:
        try:
            return json.loads(get(port, "/livez")) == {"status": "live"}
        except OSError:
            return False

    wait_until(answers_again, what="the admin API once more")
    assert child.running
    assert "Traceback" not in child.log_tail(1000)


def test_a_new_process_takes_the_socket_of_one_that_was_killed(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    for _ in range(2):
        child = serve(f"unix:{path}")
        wait_until(lambda: answers(path), what="the admin API")
        assert http_over_unix.ask(path, "POST", "/v1/runs").status == 202
        child.stop(signal.SIGKILL)
        assert path.exists()


def test_two_processes_with_one_port_both_go_on_and_the_second_takes_over(
    serve: Serve, tmp_path: Path
) -> None:
    port = free_port()
    first = serve(f"{LOCALHOST}:{port}")
    wait_until(lambda: accepts_connections(port), what="the first")
    (tmp_path / "log").rename(tmp_path / "log of the first")
    second = serve(f"{LOCALHOST}:{port}")
    wait_until(lambda: "Address already in use" in second.log_tail(), what="a warning")
    first.stop(signal.SIGKILL)
    wait_until(lambda: accepts_connections(port), what="the second")
    assert second.running
