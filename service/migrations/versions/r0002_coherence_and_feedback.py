"""Schema version 2: anonymous responses, coherence and feedback in `outcomes`; the answers that may be rated."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INTEGERS = ("anonymous", "judged", "rated")
FLOATS = ("coherence", "coherence_squared", "feedback", "feedback_squared")


def upgrade() -> None:
    """Add them: 0 where they were not counted yet."""
    for name in (*INTEGERS, *FLOATS):
        # The default stays: servers of the version before may go on writing for a while.
        kind = sa.Float() if name in FLOATS else sa.BigInteger()
        op.add_column("outcomes", sa.Column(name, kind, nullable=False, server_default=sa.text("0")))
    op.create_table(
        "answers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("counted", sa.Boolean, nullable=False),
        sa.Column("by_user", sa.Boolean, nullable=False),
        sa.Column("feedback", sa.Float),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_answers_at", "answers", ["at"])
    op.create_index("ix_answers_experiment", "answers", ["experiment"])
