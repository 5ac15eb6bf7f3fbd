"""A supervisor whose only worker starts and then says nothing; quicker to lose its patience."""

import sys

from scrubber import pool

pool.patch()

from scrubber.orders import Orders  # noqa: E402 - sockets are green from here on
from scrubber.workers import crew  # noqa: E402

crew.SILENCE, crew.TICK, crew.FIRST_PAUSE = 1.0, 0.1, 0.1
crew._command = lambda *_: [sys.executable, "-c", "import time; time.sleep(600)"]

workers = crew.Crew([], 1, Orders(), pool.Flag(), pool.Bell())
(member,) = workers.members
while member.deaths < 2:
    pool.sleep(0.05)
print(member.pid, flush=True)
workers.kill()
workers.close()
