"""Real servers for tests: Glance, MariaDB, PostgreSQL, SQLite, each started and stopped here.

``processes`` starts and stops children, ``scratch`` gives them directories, ``databases``
and ``glance`` know the servers, ``accidents`` stages what no API call leaves behind.
Everything listens on 127.0.0.1 only, on a free port.
"""


class Unavailable(Exception):
    """A program that a server needs is not installed here; the message names it."""
