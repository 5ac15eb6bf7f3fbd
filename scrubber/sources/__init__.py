"""WHERE deleted images come from.

``base`` is the contract; ``database`` reads Glance's own tables (``tables``), the only
place that knows every pending image; ``engine`` is the connection to them.
"""
