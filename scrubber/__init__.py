"""scrubber gives operators of OpenStack clouds their storage back.

Glance with ``delayed_delete`` only marks a deleted image ``pending_delete``.
scrubber deletes the bytes and records that they are gone.  One run is one
pipeline; every stage is a package or a module, and this is the map::

    sources/    WHERE deleted images come from (the Glance database)
       |  pages of candidates
    planning/   WHAT may be deleted now: pure decisions over frozen values
       |  claims, live references, order, verdicts
    run.py      one run, stage by stage; work.py its images, locations and stores,
       |        live.py what live images use, troubles.py what failed before
    dispatch.py batches on the GreenPool (pool.py); health.py what a store takes
       |  batches, one store call each
    stores/     HOW bytes go: one driver per type of store
       |  answers: deleted, or one of errors.py
    recorder.py the finish: bytes first, then the rows, in batches
    state/      what is remembered between runs: what failed, when to try it again
    reporting/  what an operator reads about all that

``cli.py`` is the program, ``service.py`` the daemon (run, wait, run again),
``manage.py`` the program for what is parked, ``config.py`` every option,
``model.py`` the values that pass between stages, ``sql.py`` what all databases need.
"""

__version__ = "0.1.0"
