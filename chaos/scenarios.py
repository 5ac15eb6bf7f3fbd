"""All scenarios, in the order in which they are played."""

from chaos.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = ()
