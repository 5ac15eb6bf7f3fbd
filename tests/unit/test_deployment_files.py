"""The files under etc/ say what scrubber and systemd, cron and Kubernetes understand."""

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scrubber import __version__, config
from scrubber.admin.application import description
from scrubber.options import SCRUBBER_OPTS, list_opts

ETC = Path(__file__).parents[2] / "etc"
UNITS = ["scrubber.service", "scrubber@.service"]
MANIFESTS = ["cronjob.yaml", "deployment.yaml"]

#: systemd's own scale: 100 is a process that may do anything.
MOST_EXPOSURE = 16


def assert_understood(words: list[str], daemon: bool) -> None:
    """Such a command line is scrubber's; the file that it names is nowhere on this machine."""
    assert Path(words[0]).name == "scrubber"
    named = ["/dev/null" if word.endswith(".conf") else word for word in words[1:]]
    assert "/dev/null" in named
    assert config.load(named).daemon is daemon


def assert_option(variable: str, value: str) -> None:
    """Such an environment variable sets an option."""
    found = re.fullmatch(r"OS_(\w+)__(\w+)", variable)
    assert found, variable
    (options,) = [opts for section, opts in list_opts() if section == found[1].lower()]
    (option,) = [opt for opt in options if opt.dest == found[2].lower()]
    option.type(value)


def default(option: str) -> Any:
    (found,) = [opt for opt in SCRUBBER_OPTS if opt.dest == option]
    return found.default


# systemd --------------------------------------------------------------------------------------


class Unit(configparser.RawConfigParser):
    """A unit whose repeated keys do not matter here."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read_string((ETC / "systemd" / name).read_text())


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The units, with a program that is there on any machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in UNITS:
        unit = (ETC / "systemd" / name).read_text()
        (tmp_path / name).write_text(unit.replace("/usr/local/bin/scrubber", "/bin/true"))
    return tmp_path


def analyze(*arguments: str, directory: Path) -> str:
    result = subprocess.run(
        ["systemd-analyze", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_against_the_units(programs: Path, name: str) -> None:
    assert analyze("verify", "--man=no", f"./{name}", directory=programs) == ""


@pytest.mark.parametrize("name", UNITS)
def test_the_units_expose_little(programs: Path, name: str) -> None:
    analyze(
        "security",
        "--offline=true",
        "--no-pager",
        f"--threshold={MOST_EXPOSURE}",
        f"./{name}",
        directory=programs,
    )


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_the_daemon_and_gives_it_time_to_stop(name: str) -> None:
    service = Unit(name)["Service"]
    assert_understood(shlex.split(service["ExecStart"]), daemon=True)
    assert service["Type"] == "notify"
    assert int(service["TimeoutStopSec"]) > default("graceful_shutdown_timeout")
    if "Environment" in service:
        assert_option(*service["Environment"].replace("%i", "1").split("=", 1))


def test_the_units_differ_only_in_what_instances_must_not_share() -> None:
    one, several = (Unit(name) for name in UNITS)
    differ = {
        key
        for section in several.sections()
        for key in {*one[section], *several[section]}
        if one[section].get(key) != several[section].get(key)
    }
    assert differ == {"Description", "Environment", "RuntimeDirectory"}


# cron -----------------------------------------------------------------------------------------


def test_cron_starts_one_run_as_the_user_of_glance() -> None:
    lines = (ETC / "cron" / "scrubber").read_text().splitlines()
    jobs = [line for line in lines if line and not line.startswith("#") and "=" not in line]
    (job,) = jobs
    *times, user, command = job.split(maxsplit=6)
    assert len(times) == 5
    assert all(re.fullmatch(r"[\d*/,-]+", time) for time in times)
    assert user == "glance"
    assert_understood(shlex.split(command)[1:], daemon=False)


# Kubernetes -----------------------------------------------------------------------------------


def manifest(name: str) -> Any:
    return yaml.safe_load((ETC / "kubernetes" / name).read_text())


def pod(document: Any) -> Any:
    spec = document["spec"]
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"]["spec"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_pod_runs_scrubber_with_few_rights_and_time_to_stop(name: str) -> None:
    document = manifest(name)
    spec = pod(document)
    (container,) = spec["containers"]
    assert_understood(container["args"], daemon=document["kind"] == "Deployment")
    for variable in container["env"]:
        assert_option(variable["name"], variable["value"])
    assert container["image"].endswith(f":{__version__}")
    assert spec["terminationGracePeriodSeconds"] > default("graceful_shutdown_timeout")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}


def probes(container: Any) -> Iterator[Any]:
    return (container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness"))


def test_the_probes_ask_what_the_daemon_answers() -> None:
    (container,) = pod(manifest("deployment.yaml"))["containers"]
    (listen,) = [at["value"] for at in container["env"] if at["name"] == "OS_ADMIN__LISTEN"]
    (port,) = container["ports"]
    assert listen.endswith(f":{port['containerPort']}")
    paths = description()["paths"]
    for probe in probes(container):
        assert probe["port"] == port["name"]
        assert probe["path"] in paths
