"""The real program against rows that a real Glance wrote.

``cloud`` is one Glance and the scrubber behind it, ``program`` runs the scrubber, ``rows``
looks into the database, ``staging`` brings Glance into the states that only accidents make.
"""
