"""All scenarios, in the order in which they are played."""

from chaos import database, kill, share, stop
from chaos.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    share.SCENARIO,
    kill.SCENARIO,
    stop.SCENARIO,
    database.SCENARIO,
)
