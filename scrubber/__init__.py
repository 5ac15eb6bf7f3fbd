"""scrubber gives operators of OpenStack clouds their storage back.

Glance with ``delayed_delete`` only marks a deleted image ``pending_delete``.
scrubber deletes the bytes and records that they are gone.  One run is one
pipeline; every stage is a package or a module, and this is the map::

    sources/    WHERE deleted images come from: the Glance database, or its API
       |  pages of candidates
    planning/   WHAT may be deleted now: pure decisions over frozen values
       |  claims, live references, order, verdicts
    run.py      one run, stage by stage; work.py its images and locations, store_state.py
       |        its stores, plans.py what can be done for an image, names.py what stores are called,
       |        live.py what live images use, troubles.py what failed before,
       |        orders.py what operators have paused or slowed down
    dispatch.py batches on the GreenPool (pool.py); health.py what a store takes,
       |        last_look.py whether a batch may still go, deleter.py its store call,
       |        verdicts.py what answers mean
       |  batches, one store call each
    stores/     HOW bytes go: one driver per type of store
       |  answers: deleted, or one of errors.py
    settling.py what became of a batch: counted, audited, remembered, handed on
    recorder.py the finish: bytes first, then the rows, in batches
    state/      what is remembered between runs: what failed, when to try it again
    reporting/  what an operator reads about all that
    admin/      probes, metrics, watching and steering over HTTP
    workers/    several processes under a supervisor: one run, one report
    glance/     Glance's own API: one more source, one more driver
    checks/     what is looked at before it goes live (``scrubber-manage check``)

``cli.py`` is the program, ``process.py`` what a process has and runs with, ``service.py`` the
daemon (run, wait, run again), ``signals.py`` and ``systemd.py`` how it is told and tells,
``steering.py`` and ``control.py`` how operators watch and steer it, through the state database
or the admin API.  ``manage/`` is the program scrubber-manage.  ``options.py`` has every option,
``config.py`` reads them; ``units.py`` are sizes and hours as operators write them, ``model.py``
the values that pass between stages, ``sql.py`` what all databases need.
"""

__version__ = "0.1.0"
