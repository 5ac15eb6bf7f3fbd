"""What is remembered between runs: the ledger of what could not be deleted.

``base.py`` is the contract, ``ledger.py`` keeps it in a database, ``opening.py`` goes on without
one, ``versions.py`` brings its tables up to date with the steps in ``migrations/``.
"""
