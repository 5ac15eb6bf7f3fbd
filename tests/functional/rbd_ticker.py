"""Deletes images as the program does, monkey patched, while a green thread counts.

``rbd_ticker.py CEPH-CONF POOL``: says ``ready``; told to delete, says ``ticked`` once it has
counted to fifty after all deletes were sent, then how many answers of each kind came.
"""

import collections
import json
import sys

from scrubber import pool

pool.patch()

from pathlib import Path  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parents[1]))

from contract.sections import section  # noqa: E402
from scrubber.model import Target  # noqa: E402
from scrubber.stores import base  # noqa: E402
from scrubber.stores.call import call  # noqa: E402
from scrubber.stores.rbd import RbdDriver  # noqa: E402


def main() -> None:
    configuration, pool_name = sys.argv[1:]
    driver = RbdDriver(
        section(RbdDriver, rbd_store_pool=pool_name, rbd_store_ceph_conf=configuration)
    )
    call(driver, driver.resolve, timeout=20)
    call(driver, driver.probe, timeout=20)
    say("ready")
    sys.stdin.readline()

    answers: collections.Counter[str] = collections.Counter()

    def delete(number: int) -> None:
        target = Target(f"rbd://{driver._cluster.fsid}/{pool_name}/a{number}/snap")
        [answer] = call(driver, driver.delete, [target], base.always)
        answers[type(answer).__name__] += 1

    tasks = [pool.Task(delete, number) for number in range(16)]
    for _ in range(50):
        pool.sleep(0.005)
    assert not answers, answers
    say("ticked")
    for task in tasks:
        task.join()
    say(json.dumps(answers))
    driver.close()


def say(line: str) -> None:
    print(line, flush=True)


main()
