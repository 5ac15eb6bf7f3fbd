"""All scenarios, in the order in which they are played."""

from chaos import clock, database, galera, kill, races, share, stop, stores
from chaos.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    share.SCENARIO,
    kill.SCENARIO,
    stop.SCENARIO,
    database.SCENARIO,
    clock.SCENARIO,
    stores.SCENARIO,
    galera.SCENARIO,
    races.SCENARIO,
)
