"""Measurements, never assertions: ``make bench`` prints what it measured.

Every contender does the same work on the same machine in one run; only ratios mean much.  The
rows of the table, and how they are measured::

    rows.py, growth.py   what is measured, and which figures follow
    measuring.py         with what: servers, fresh scenes, a memory
    scene.py             a database and stores with images (backlog.py, places.py, plugin/)
    contenders.py        scrubber, glance-scrubber, the limit (bare_loop.py)
    programs.py          processes: seconds, CPU, memory
    results.py           the figures as JSON; ratios and targets
    report.py, plots.py  the page and the plots

Measurements of their own: ``stores`` (pool sizes, requests), ``throttling``, ``glance_api``,
``audit``, ``soak``, and ``flame``, which shows where the time goes.
"""
