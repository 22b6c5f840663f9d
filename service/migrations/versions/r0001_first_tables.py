"""The tables of schema version 1: masks, what operators set, outcomes of experiments, flagged responses."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SUMS = (
    *("responses", "errors", "truncated", "tokens", "tokens_squared", "seconds", "seconds_squared"),
    *("scored", "toxic", "repetitive", "refusals"),
)
BUCKETS = 97


def upgrade() -> None:
    """Make them, with the one row of `changes`."""
    changes = op.create_table(
        "changes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("masks", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(changes, [{"id": 1, "number": 0, "masks": 0}])
    _set_by_operators()
    op.create_table(
        "outcomes",
        sa.Column("experiment", sa.String(64), primary_key=True),
        sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("variant", sa.String(64), primary_key=True),
        sa.Column("replica", sa.String(48), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        *(sa.Column(name, sa.Float if "seconds" in name else sa.BigInteger, nullable=False) for name in SUMS),
        *(sa.Column(f"latency_{bucket}", sa.BigInteger, nullable=False) for bucket in range(BUCKETS)),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "units",
        sa.Column("experiment", sa.String(64), primary_key=True),
        sa.Column("unit", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("batch", sa.String(48), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("units_of_batch", "units", ["batch"])
    op.create_table(
        "flagged",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("mask", sa.String(100), nullable=False),
        sa.Column("experiment", sa.String(64)),
        sa.Column("variant", sa.String(64)),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_index("ix_flagged_at", "flagged", ["at"])


def _set_by_operators() -> None:
    op.create_table(
        "masks",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("registered_at", sa.String(32), nullable=False),
        sa.Column("description", sa.JSON, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.UniqueConstraint("name", "version"),
    )
    op.create_index("ix_masks_name", "masks", ["name"])
    op.create_index("masks_listed", "masks", ["deleted", "name", "version", "digest"])
    op.create_table(
        "pointers",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("targets", sa.JSON, nullable=False),
    )
    op.create_table(
        "experiments",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("before", sa.JSON),
        sa.Column("after", sa.JSON),
        sa.Column("reason", sa.Text),
    )
