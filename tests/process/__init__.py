"""Tests of the program as a process: command line, output, signals, crashes, lost databases.

``rows`` writes deleted images straight into Glance's tables, ``program`` runs scrubber,
``journal`` reads what the slow store of ``plugin`` did and when.
"""
