"""Several worker processes under one supervisor: ``workers = N`` in section [scrubber].

The supervisor is the process that an operator starts.  It decides when to run, answers signals,
systemd and the admin API, and knows the state database; it deletes nothing.  Each of its workers
(``worker.py``) is a fresh Python that scrubs when it is told to and shares the work with the
others through claims in Glance's database, as processes on several hosts do.  ``crew.py`` starts
them and starts them again, ``crew_run.py`` is a run of all of them with one report,
``messages.py`` what both sides say to each other, on a socket that only they have.
"""
