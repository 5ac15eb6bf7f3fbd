"""Who may import whom: the arrows of the design, read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import scrubber

ROOT = Path(scrubber.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


@cache
def imported(module: str) -> set[str]:
    """Full names of all modules that this one imports, also inside functions."""
    tree = ast.parse(MODULES[module].read_text())
    return set(_imported(tree, module))


def _imported(tree: ast.AST, module: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def ours(module: str) -> set[str]:
    return {name for name in imported(module) if name.partition(".")[0] == "scrubber"}


def within(name: str, allowed: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in allowed)


ROOMS = [
    # a module or package; what of ours it may import, itself apart
    ("scrubber.errors", set()),
    ("scrubber.model", {"scrubber.errors"}),
    ("scrubber.planning", {"scrubber.model", "scrubber.errors"}),
    ("scrubber.reporting.report", {"scrubber.model"}),
    # Metrics tell the version, the audit trail has an option.
    ("scrubber.reporting", {"scrubber", "scrubber.config", "scrubber.options", "scrubber.model"}),
    ("scrubber.admin.address", {"scrubber.units"}),
    (
        "scrubber.admin",
        {
            "scrubber.config",
            "scrubber.options",
            "scrubber.errors",
            "scrubber.orders",
            "scrubber.pool",
            "scrubber.reporting",
            "scrubber.units",
        },
    ),
    ("scrubber.config", {"scrubber", "scrubber.arguments", "scrubber.errors", "scrubber.options"}),
    # Pure: what the options become, and what an address looks like.
    ("scrubber.options", {"scrubber", "scrubber.admin.address", "scrubber.units"}),
    ("scrubber.units", {"scrubber.planning.wakeups"}),
    ("scrubber.systemd", {"scrubber.pool"}),
    ("scrubber.arguments", set()),
    ("scrubber.sql", {"scrubber.errors", "scrubber.pool"}),
    (
        "scrubber.state",
        {
            "scrubber.errors",
            "scrubber.config",
            "scrubber.options",
            "scrubber.pool",
            "scrubber.sql",
            # Pure: what is remembered of a failure, and what an operator may order.
            "scrubber.planning.retry",
            "scrubber.orders",
        },
    ),
    ("scrubber.pool", set()),
    (
        "scrubber.stores",
        {
            "scrubber.model",
            "scrubber.errors",
            "scrubber.config",
            "scrubber.options",
            "scrubber.pool",
            "scrubber.units",
            # One driver deletes through Glance, by rules that are pure.
            "scrubber.glance",
            "scrubber.planning.due",
            "scrubber.planning.retirement",
        },
    ),
    (
        "scrubber.glance",
        {
            "scrubber.errors",
            "scrubber.config",
            "scrubber.options",
            "scrubber.model",
            "scrubber.planning.retirement",
            "scrubber.pool",
            "scrubber.stores.http_date",
            # Pure: how an option is written.
            "scrubber.units",
        },
    ),
    (
        "scrubber.sources",
        {
            "scrubber.glance",
            "scrubber.model",
            "scrubber.errors",
            "scrubber.config",
            "scrubber.options",
            "scrubber.pool",
            "scrubber.sql",
            # Pure: which kind a row is; and what a URL looks like.
            "scrubber.planning",
            "scrubber.stores.uri",
        },
    ),
    (
        "scrubber.steering",
        {
            "scrubber",
            "scrubber.errors",
            "scrubber.orders",
            "scrubber.pool",
            "scrubber.reporting",
            "scrubber.state",
        },
    ),
    (
        "scrubber.manage",
        {
            "scrubber",
            "scrubber.arguments",
            "scrubber.checks.command",
            "scrubber.cli",
            "scrubber.config",
            "scrubber.options",
            "scrubber.errors",
            "scrubber.model",
            "scrubber.orders",
            "scrubber.planning",
            "scrubber.pool",
            "scrubber.reporting",
            "scrubber.sources.engine",
            "scrubber.sources.listing",
            "scrubber.state",
            # What a worker may be at.
            "scrubber.workers.status",
            # The names of the stores, not the stores themselves.
            "scrubber.stores.registry",
        },
    ),
    (
        # As a run sees them: the configuration, both databases, the rows and the stores.
        "scrubber.checks",
        {
            "scrubber.config",
            "scrubber.options",
            "scrubber.errors",
            "scrubber.glance",
            "scrubber.canaries",
            "scrubber.health",
            "scrubber.model",
            "scrubber.planning",
            "scrubber.pool",
            "scrubber.reporting",
            "scrubber.sources",
            "scrubber.sql",
            "scrubber.state.database",
            "scrubber.store_state",
            "scrubber.stores.base",
            "scrubber.stores.call",
            "scrubber.stores.registry",
            "scrubber.stores.uri",
        },
    ),
    (
        # Both sides of the channel; only a worker is a process of its own.
        "scrubber.workers.messages",
        {"scrubber.pool"},
    ),
    (
        "scrubber.workers.crew_run",
        {"scrubber.pool", "scrubber.reporting", "scrubber.workers"},
    ),
    (
        "scrubber.workers.crew",
        {
            "scrubber",
            "scrubber.health",
            "scrubber.orders",
            "scrubber.pool",
            "scrubber.reporting.report",
            "scrubber.workers",
        },
    ),
    (
        "scrubber.canaries",
        {
            "scrubber.model",
            "scrubber.errors",
            "scrubber.planning.proof",
            "scrubber.stores.base",
            "scrubber.stores.registry",
        },
    ),
    (
        "scrubber.live",
        {
            "scrubber.canaries",
            "scrubber.model",
            "scrubber.errors",
            "scrubber.pool",
            "scrubber.planning",
            "scrubber.sources.base",
            "scrubber.stores.base",
            "scrubber.stores.call",
            "scrubber.stores.registry",
            "scrubber.stores.uri",
            # What is asked about.
            "scrubber.work",
        },
    ),
]


def allowed_names(allowed: set[str]) -> set[str]:
    return allowed - {"scrubber"}


@pytest.mark.parametrize(("room", "allowed"), ROOMS, ids=[room for room, _ in ROOMS])
def test_imports_point_inward(room: str, allowed: set[str]) -> None:
    modules = [module for module in MODULES if within(module, {room})]
    assert modules
    for module in modules:
        for name in ours(module):
            fine = name in allowed or within(name, allowed_names(allowed) | {room})
            assert fine, f"{module} imports {name}"


@pytest.mark.parametrize("module", ["scrubber.run", "scrubber.dispatch", "scrubber.recorder"])
def test_a_run_knows_no_concrete_driver_and_no_concrete_source(module: str) -> None:
    allowed = {"scrubber.sources.base", "scrubber.stores.base", "scrubber.stores.registry"}
    allowed |= {"scrubber.stores.call", "scrubber.stores.uri"}
    for name in ours(module):
        if within(name, {"scrubber.sources", "scrubber.stores"}):
            assert name in allowed, f"{module} imports {name}"


def test_only_the_pool_imports_eventlet() -> None:
    importers = {
        module
        for module in MODULES
        if any(within(name, {"eventlet", "greenlet"}) for name in imported(module))
    }
    assert importers == {"scrubber.pool"}


def test_planning_does_no_io_and_reads_no_clock() -> None:
    """What it needs of the world is passed in."""
    pure = {
        "array",
        "bisect",
        "collections",
        "collections.abc",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "math",
        "re",
        "typing",
        "urllib.parse",
    }
    for module in MODULES:
        if within(module, {"scrubber.planning", "scrubber.model", "scrubber.errors"}):
            assert imported(module) - ours(module) <= pure, module
            source = MODULES[module].read_text()
            assert ".now(" not in source, module
            assert "utcnow" not in source, module


def test_sqlalchemy_stays_where_databases_are() -> None:
    rooms = {"scrubber.sources", "scrubber.state", "scrubber.sql", "scrubber.config"}
    for module in MODULES:
        if any(within(name, {"sqlalchemy", "oslo_db", "alembic"}) for name in imported(module)):
            assert within(module, rooms), module


def test_no_module_is_a_drawer_for_everything() -> None:
    for module in MODULES:
        last = module.rpartition(".")[2]
        assert last not in {"utils", "util", "common", "helpers", "misc", "tools"}, module


def test_every_package_is_in_the_map() -> None:
    """The docstring of the package names every room and every module that is none."""
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert rooms
    for room in rooms:
        assert f"{room}/" in (scrubber.__doc__ or ""), room


def test_a_run_does_not_import_what_few_runs_need() -> None:
    """A run that finds nothing is over sooner than these are imported."""
    script = (
        "import sys\n"
        "from scrubber.__main__ import prepare\n"
        "prepare()\n"
        "from scrubber import cli\n"
        "print(*sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    needless = {
        "OpenSSL",
        "alembic",
        "boto3",
        "dns",
        "falcon",
        "glanceclient",
        "glance_store",
        "keystoneauth1",
        "oslo_utils.strutils",
        "prometheus_client",
        "requests",
        "rich",
        "sqlalchemy.dialects.postgresql",
    }
    assert not needless & set(result.stdout.split())
