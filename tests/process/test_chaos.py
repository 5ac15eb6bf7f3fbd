"""What ``make chaos`` plays for long, played small: nothing that must hold is violated."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.scenario import Scenario, Site
from chaos.scenarios import SCENARIOS
from conftest import needed_programs
from lab.databases import Servers

SEED = 7


@pytest.fixture
def site(servers: Servers, tmp_path: Path, cache: Path) -> Iterator[Site]:
    with Site(servers, tmp_path, cache) as site:
        yield site


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_under(scenario: Scenario, site: Site) -> None:
    with needed_programs():
        played = scenario.play(site, scenario.small(SEED))
    violations = [str(violation) for fault in played for violation in fault.violations]
    assert violations == [], f"{scenario.promise} (seed {SEED})"
    assert played
    assert [fault.fault for fault in played if not fault.times] == [], "they were not injected"
