"""What the benchmarks say of a program is what it did."""

import sys
from pathlib import Path

import pytest

from bench.programs import Program, ProgramFailed, run
from lab.processes import wait_until

BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
LARGE = "import time; held = bytearray(b'x') * (200 << 20); time.sleep(0.5)"


def python(script: str) -> Program:
    return Program([sys.executable, "-c", script])


def test_the_work_of_all_processes_is_counted(tmp_path: Path) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}], check=True)"
    taken = run(python(BUSY), python(child), log=tmp_path / "log")
    assert taken.cpu_seconds >= 0.6


def test_memory_is_that_of_the_program_not_of_who_starts_it(tmp_path: Path) -> None:
    ours = bytearray(b"x") * (300 << 20)
    taken = run(python(LARGE), log=tmp_path / "log")
    assert 200 <= taken.peak_mib < 300
    del ours


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match=r"status 1.*it went wrong"):
        run(python("import sys; sys.exit('it went wrong')"), log=tmp_path / "log")


def test_a_program_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    hanging = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}"
    hanging += " + 'time.sleep(600)'])"
    with pytest.raises(ProgramFailed, match="still running"):
        run(python(hanging), log=tmp_path / "log", timeout=2)
    pid = (tmp_path / "pid").read_text()
    wait_until(lambda: not Path("/proc", pid).exists(), what="the end of what it started")
