"""What pip makes of the sources is what runs here."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from process.program import Program

SOURCES = Path(__file__).parents[2]
PARTS = ("scrubber", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

# What only some need, and only once they connect or print. (eventlet itself loads psycopg2.)
LATE = ("pymysql", "MySQLdb", "pg8000", "rich", "boto3", "swiftclient", "glance_store")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_it_installs_and_runs_with_nothing_but_what_it_declares(
    tmp_path: Path, program: Program
) -> None:
    sources, environment = tmp_path / "sources", tmp_path / "environment"
    sources.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (SOURCES / part).is_dir() else shutil.copy
        copy(SOURCES / part, sources / part)
    venv.create(environment, with_pip=True)
    pip = [str(environment / "bin" / "pip"), "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", str(sources)])
    run([*pip, "check"])
    modules = sorted(path.relative_to(sources) for path in sources.glob("scrubber/**/*.py"))
    (installed,) = environment.glob("lib/python*/site-packages")
    assert [module for module in modules if not (installed / module).exists()] == []
    assert (installed / "scrubber" / "py.typed").exists()

    # Not the sources: they lie in no directory that Python looks into.
    command = [str(environment / "bin" / "scrubber")]
    assert run([*command, "--version"]).startswith(
        run([str(environment / "bin" / "python"), "-c", PRINT_VERSION]).strip()
    )
    everything = [str(environment / "bin" / "python"), "-c", IMPORT_EVERYTHING]
    assert int(run(everything)) >= len(modules) - len(["__main__", "s3_client"])
    ended = subprocess.run(
        command,
        env=program.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("ERROR:")) == (1, 1)


PRINT_VERSION = "import scrubber; print(scrubber.__version__)"

IMPORT_EVERYTHING = """
import importlib, pkgutil, scrubber
from scrubber import pool
pool.patch()
names = [found.name for found in pkgutil.walk_packages(scrubber.__path__, "scrubber.")]
names.remove("scrubber.__main__")
names.remove("scrubber.stores.s3_client")  # needs the extra s3
for name in names:
    importlib.import_module(name)
print(len(names) + 1)
"""


def run(command: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=150, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_help_loads_nothing_that_it_does_not_need(program: Program) -> None:
    command = [sys.executable, "-X", "importtime", *program.command("--help", configured=False)]
    result = subprocess.run(
        command,
        env=program.environment(),
        cwd=program.directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.split("\n")
    }
    assert "scrubber" in loaded
    assert loaded.isdisjoint(LATE)
