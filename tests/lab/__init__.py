"""Real servers for tests, each started and stopped here: Glance, databases, Galera, object stores.

``processes`` starts and stops children, ``scratch`` gives them directories, ``databases``,
``glance``, ``swift``, ``s3`` and ``ceph`` know the servers; ``loaded`` runs scrubber quickly.
Everything listens on 127.0.0.1 only, on a free port.
"""


class Unavailable(Exception):
    """A program that a server needs is not installed here; the message names it."""
