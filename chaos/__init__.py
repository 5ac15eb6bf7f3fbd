"""Faults, injected from outside, and what must hold under all of them: ``python -m chaos``.

``scenario.py`` is what a scenario is given and gives back, ``scenarios.py`` the list of them,
``invariants.py`` what is looked at after each fault.
"""
