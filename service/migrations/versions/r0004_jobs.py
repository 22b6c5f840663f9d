"""Jobs, and of flagged responses what they were said to and what they were flagged for."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table and add the columns; what was flagged before was toxic."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(60), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("mask", sa.String(100), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_index("jobs_by_mask", "jobs", ["kind", "mask", "created_at"])
    op.add_column("flagged", sa.Column("prompt", sa.Text))
    shows = sa.Column("shows", sa.String(16), nullable=False, server_default=sa.text("'toxicity'"))
    op.add_column("flagged", shows)
