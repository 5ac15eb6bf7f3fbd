"""What processes do and what operators order: runs, processes, stores."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

_ENGINE: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
}


def upgrade() -> None:
    there = sa.inspect(op.get_bind())
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    document = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
    if not there.has_table("scrubber_runs"):
        op.create_table(
            "scrubber_runs",
            sa.Column("id", sa.String(36), primary_key=True),
            sa.Column("process_id", sa.String(36), nullable=False),
            sa.Column("host", sa.String(255), nullable=False),
            sa.Column("pid", sa.Integer, nullable=False),
            sa.Column("trigger_name", sa.String(64), nullable=False),
            sa.Column("status", sa.String(32), nullable=False),
            sa.Column("started_at", moment, nullable=False),
            sa.Column("seen_at", moment, nullable=False),
            sa.Column("finished_at", moment),
            sa.Column("cancel_asked", sa.Boolean, nullable=False),
            # What lists show, so that they need no report; before it, as SQLite reads in order.
            sa.Column("figures", document, nullable=False),
            sa.Column("report", document, nullable=False),
            # The order in which they are listed; as a constraint it is made in the same step.
            sa.UniqueConstraint("started_at", "id", name="scrubber_runs_order"),
            **_ENGINE,
        )
    if not there.has_table("scrubber_processes"):
        op.create_table(
            "scrubber_processes",
            sa.Column("id", sa.String(36), primary_key=True),
            sa.Column("host", sa.String(255), nullable=False),
            sa.Column("pid", sa.Integer, nullable=False),
            sa.Column("version", sa.String(32), nullable=False),
            sa.Column("started_at", moment, nullable=False),
            sa.Column("seen_at", moment, nullable=False),
            sa.Column("run_asked_at", moment),
            sa.Column("doing", document, nullable=False),
            **_ENGINE,
        )
    if not there.has_table("scrubber_stores"):
        op.create_table(
            "scrubber_stores",
            sa.Column("store", sa.String(255), primary_key=True),
            sa.Column("paused", sa.Boolean, nullable=False),
            sa.Column("max_rate", sa.Float),
            sa.Column("changed_at", moment, nullable=False),
            # Names of stores differ by case.
            mysql_collate="utf8mb4_bin",
            mariadb_collate="utf8mb4_bin",
            **_ENGINE,
        )
