"""The admin API of a real daemon, and its audit trail: what operators do with them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import http_over_unix
from lab.processes import LOCALHOST, accepts_connections, free_port, wait_until
from process.program import Program, Running
from process.rows import Backlog

pytestmark = pytest.mark.timeout(120)

HERE = Path(__file__).parent
SCHEMATHESIS = shutil.which("st", path=str(Path(sys.executable).parent))
TOKEN = "0123456789abcdef0123456789abcdef"

Ask = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def daemon(program: Program, backlog: Backlog, path: Path, trail: Path, tmp_path: Path) -> Running:
    """One that waits for its next run, the first one over."""
    backlog.add_live(2)
    backlog.add_pending(5)
    program.use(backlog)
    program.configure(
        {
            "DEFAULT": {"wakeup_time": 3600},
            "admin": {"listen": f"unix:{path}"},
            "scrubber": {"audit_file": trail},
            "state": {"connection": f"sqlite:///{tmp_path}/state.sqlite"},
        }
    )
    running = program.start("--daemon")
    running.child.wait_ready(lambda: running.runs_ended() == 1 and path.exists())
    return running


@pytest.fixture
def ask(path: Path) -> Ask:
    def ask(method: str, target: str, body: object = None, status: int = 200) -> Any:
        answer = http_over_unix.ask(path, method, target, body)
        assert answer.status == status, answer
        return answer.document

    return ask


def metric(path: Path, line: str) -> float:
    text = http_over_unix.ask(path, "GET", "/metrics").text
    found = [at for at in text.splitlines() if at.startswith(f"{line} ")]
    assert len(found) == 1, text
    return float(found[0].rpartition(" ")[2])


def test_what_a_run_did_is_shown_until_the_daemon_ends(
    daemon: Running, ask: Ask, path: Path
) -> None:
    assert ask("GET", "/v1/status")["state"] == "waiting"
    assert metric(path, 'scrubber_locations_total{outcome="deleted",store="main"}') == 5
    assert metric(path, 'scrubber_runs_total{status="succeeded"}') == 1
    assert metric(path, 'scrubber_store_call_duration_seconds_count{store="main"}') >= 1
    (run,) = ask("GET", "/v1/runs")["runs"]
    assert ask("GET", f"/v1/runs/{run['run']}")["locations"]["deleted"] == 5
    ask("PATCH", f"/v1/runs/{run['run']}", {"status": "cancelled"}, status=409)
    assert ask("GET", "/v1/parked") == {"locations": []}
    daemon.assert_stops()
    assert not path.exists()


def test_a_daemon_does_what_the_description_says(
    program: Program, backlog: Backlog, tmp_path: Path
) -> None:
    """schemathesis makes up requests, sensible ones and others, and looks at all answers."""
    assert SCHEMATHESIS, "schemathesis is one of the test dependencies"
    token, port = tmp_path / "token", free_port()
    token.write_text(TOKEN)
    token.chmod(0o600)
    backlog.add_live(2)
    program.use(backlog)
    program.configure(
        {
            "DEFAULT": {"wakeup_time": 3600},
            "admin": {"listen": f"{LOCALHOST}:{port}", "token_file": token, "timeout": 1},
            "state": {"connection": f"sqlite:///{tmp_path}/state.sqlite"},
        }
    )
    running = program.start("--daemon")
    wait_until(lambda: accepts_connections(port), what="the admin API")
    wait_until(lambda: running.runs_ended() == 1, what="a run")
    result = subprocess.run(
        [
            *(SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml"),
            *("run", f"http://{LOCALHOST}:{port}/v1/openapi.json"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--phases", "coverage,fuzzing", "--max-examples", "3", "--seed", "1"),
            *("--request-timeout", "10", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr
    assert "14 selected / 14 total" in result.stdout
    assert "Traceback" not in running.stderr
    running.assert_stops()


def test_a_reload_says_that_the_address_stays(
    daemon: Running, program: Program, ask: Ask, tmp_path: Path
) -> None:
    program.configure({"admin": {"listen": f"unix:{tmp_path}/other.sock"}})
    daemon.child.send(signal.SIGHUP)
    wait_until(lambda: "Configuration reloaded" in daemon.stderr, what="the reload")
    assert "admin.listen" in daemon.stderr
    assert ask("GET", "/livez") == {"status": "live"}
    daemon.assert_stops()


def test_each_location_has_a_line_in_the_audit_trail(
    daemon: Running, backlog: Backlog, trail: Path
) -> None:
    lines = [json.loads(line) for line in trail.read_text().splitlines()]
    assert {line["image"] for line in lines} == set(backlog.pending)
    assert len(lines) == 5
    for line in lines:
        assert line["outcome"] == "deleted"
        assert line["store"] == "main"
        assert line["owner"] == "owner"
        assert line["size"] == len(b"bytes")
    assert str(backlog.directory) not in trail.read_text()
    assert "scrubber.audit" not in daemon.stderr
    daemon.assert_stops()


def test_a_full_disk_stops_the_trail_and_not_the_scrubbing(
    program: Program, backlog: Backlog
) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    backlog.add_live(2)
    backlog.add_pending(5)
    program.use(backlog)
    program.configure({"scrubber": {"audit_file": "/dev/full"}})
    ended = program.main()
    assert ended.status == 0, ended
    assert ended.stderr.count("without an audit trail") == 1
    assert "Traceback" not in ended.stderr
    backlog.assert_scrubbed()


def test_a_token_that_everybody_may_read_is_refused_at_start(
    program: Program, backlog: Backlog, path: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o644)
    program.use(backlog)
    program.configure({"admin": {"listen": f"unix:{path}", "token_file": token}})
    program.main("--daemon").assert_one_error("token_file", "[admin]", f"chmod o= {token}")


def test_without_its_address_a_daemon_scrubs_with_a_warning(
    program: Program, backlog: Backlog, tmp_path: Path
) -> None:
    backlog.add_live(2)
    backlog.add_pending(5)
    program.use(backlog)
    program.configure({"admin": {"listen": f"unix:{tmp_path}/none/admin.sock"}})
    running = program.start("--daemon")
    wait_until(lambda: running.runs_ended() == 1, what="a run")
    backlog.assert_scrubbed()
    assert "The admin API cannot be served" in running.stderr
    assert "No such file or directory" in running.stderr
    running.assert_stops()
