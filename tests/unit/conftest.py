"""Hypothesis without deadlines, which say more about the machine than about the code."""

from hypothesis import settings

settings.register_profile("scrubber", deadline=None, database=None, print_blob=True)
settings.load_profile("scrubber")
