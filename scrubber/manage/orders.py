"""``cancel``, ``pause``, ``resume`` and ``run-now``: what operators order of running scrubbers."""

from dataclasses import replace
from typing import Any

from scrubber import errors
from scrubber.manage.invocation import DONE, Invocation, add_command, print_json
from scrubber.orders import ALL
from scrubber.reporting import text
from scrubber.reporting.report import utcnow
from scrubber.state.activity import Activity
from scrubber.stores import registry


def add_to(commands: Any) -> None:
    """Add these commands to those of the program."""
    cancel = add_command(
        commands,
        "cancel",
        _cancel,
        help="end a run",
        description="Asks a run to end: nothing more is sent to a store, calls in flight end and "
        "are recorded. A daemon goes on with its next run when that is due.",
    )
    cancel.add_argument("run", metavar="RUN", help="its id, or the beginning of it")
    pause = add_command(
        commands,
        "pause",
        _pause,
        help="delete nothing from a store",
        description="Nothing is deleted from this store until it is resumed, by any scrubber that "
        "shares the state database; without STORE nothing is deleted at all.",
    )
    pause.add_argument("store", nargs="?", metavar="STORE", help="only this store")
    resume = add_command(
        commands,
        "resume",
        _resume,
        help="delete from a store again",
        description="Lifts a pause; without STORE every pause.",
    )
    resume.add_argument("store", nargs="?", metavar="STORE", help="only this store")
    run_now = add_command(
        commands,
        "run-now",
        _run_now,
        help="have daemons run now",
        description="Asks the daemons that share the state database for a run now, also outside "
        "scrub_window.",
    )
    run_now.add_argument("--host", metavar="HOST", help="only those of this host")


def _cancel(invocation: Invocation) -> int:
    wanted = invocation.options.run
    with invocation.state() as database:
        activity = Activity(database)
        run = activity.run(wanted)
        if run is None:
            raise errors.ScrubberError(f"no run, or more than one, has an id that begins {wanted}")
        if not activity.cancel(run.id):
            ended = run.as_of(utcnow()).status
            raise errors.ScrubberError(f"run {run.id} is not under way: {ended}")
    if invocation.as_json:
        print_json({"run": run.id})
    else:
        print(f"Run {run.id} on {run.host} is asked to end.")
    return DONE


def _pause(invocation: Invocation) -> int:
    store = _store(invocation)
    with invocation.state() as database:
        Activity(database).change(utcnow(), store, lambda order: replace(order, paused=True))
    if invocation.as_json:
        print_json({"paused": [store] if store else registry.names(invocation.conf)})
    else:
        print(f"Nothing is deleted{f' from store {store}' if store else ''} until it is resumed.")
    return DONE


def _resume(invocation: Invocation) -> int:
    store = _store(invocation)
    with invocation.state() as database:
        activity = Activity(database)
        paused = {name for name, order in activity.store_orders().items() if order.paused}
        if store and ALL in paused:
            raise errors.ScrubberError("all stores are paused: resume without STORE lifts that")
        lifted = paused & {store} if store else paused
        for name in lifted:
            activity.change(utcnow(), name, lambda order: replace(order, paused=False))
    if invocation.as_json:
        print_json({"resumed": sorted(lifted)})
    elif lifted:
        print("Resumed.")
    else:
        print(f"Store {store} is not paused." if store else "Nothing is paused.")
    return DONE


def _store(invocation: Invocation) -> str:
    """The store that was named, ``""`` without one.

    :raises ScrubberError: no such store.
    """
    name: str | None = invocation.options.store
    if name is None:
        return ALL
    known = registry.names(invocation.conf)
    if name not in known:
        raise errors.ScrubberError(f"{name!r}: no such store; configured are {', '.join(known)}")
    return name


def _run_now(invocation: Invocation) -> int:
    host = invocation.options.host
    with invocation.state() as database:
        asked = Activity(database).ask_for_run(utcnow(), host)
    if not asked:
        where = f"on host {host} " if host else ""
        raise errors.ScrubberError(f"no scrubber {where}was heard of in the last minute")
    if invocation.as_json:
        print_json({"processes": asked})
    else:
        print(f"Asked {text.counted(asked, 'scrubber')} to run now.")
    return DONE
