"""The retry ledger: a row per location that could not be deleted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("scrubber_retries"):
        return
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    op.create_table(
        "scrubber_retries",
        sa.Column("image_id", sa.String(36), nullable=False),
        sa.Column("location_id", sa.BigInteger, nullable=False),
        sa.Column("store", sa.String(255), nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("size", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_failed_at", moment, nullable=False),
        sa.Column("next_try_at", moment, nullable=False),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "location_id"),
        # The order in which they are listed; as a constraint it is made in the same step.
        sa.UniqueConstraint(
            "first_failed_at", "image_id", "location_id", name="scrubber_retries_order"
        ),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mariadb_engine="InnoDB",
        mariadb_charset="utf8mb4",
    )
