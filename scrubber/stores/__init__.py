"""HOW bytes go: one driver per type of store.

``base`` is the contract, ``registry`` builds the drivers that the configuration names,
``uri`` keeps credentials out of sight; every other module is one driver, found by the
entry point group ``scrubber.stores``.
"""
