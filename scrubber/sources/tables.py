"""The columns of Glance's tables that scrubber uses, and no others.

The same in every Glance release with database migrations since Ocata; real Boolean
columns, since PostgreSQL refuses to compare them with numbers.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()

IMAGES = Table(
    "images",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("owner", String(255)),
    Column("status", String(30)),
    Column("size", BigInteger),
    Column("deleted", Boolean),
    Column("created_at", DateTime),
    Column("updated_at", DateTime),
    Column("deleted_at", DateTime),
)

LOCATIONS = Table(
    "image_locations",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("image_id", String(36)),
    Column("value", Text),
    Column("meta_data", Text),
    Column("status", String(30)),
    Column("deleted", Boolean),
    Column("created_at", DateTime),
    Column("updated_at", DateTime),
    Column("deleted_at", DateTime),
)


def _belongings(name: str, *columns: Column[str]) -> Table:
    """A table of what belongs to an image and is deleted and restored with it."""
    return Table(
        name,
        METADATA,
        Column("id", Integer, primary_key=True),
        Column("image_id", String(36)),
        Column("deleted", Boolean),
        Column("deleted_at", DateTime),
        *columns,
    )


PROPERTIES = _belongings("image_properties", Column("name", String(255)), Column("value", Text))
TAGS = _belongings("image_tags")
MEMBERS = _belongings("image_members")

BELONGINGS = (PROPERTIES, TAGS, MEMBERS)
