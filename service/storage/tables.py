"""Every table of the service. JSON columns hold documents whose shape the module that writes them knows."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

SCHEMA = 2
"""Version of these tables, kept in the table ``schema``; raised whenever they change."""

metadata = MetaData()

schema = Table(
    "schema", metadata, Column("id", Integer, primary_key=True, autoincrement=False), Column("version", Integer)
)

changes = Table(
    "changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("masks", BigInteger, nullable=False),
)
"""One row: how many changes there were, and of masks among them; replicas watch it."""

masks = Table(
    "masks",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("registered_at", String(32), nullable=False),
    Column("description", JSON, nullable=False),
    Column("deleted", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("name", "version"),
    Index("masks_listed", "deleted", "name", "version", "digest"),
)
"""A deleted mask keeps its row: versions are never used again."""

pointers = Table(
    "pointers",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("targets", JSON, nullable=False),
)
"""``route``, and ``alias MASK ALIAS``: where they point (the last target) and pointed before."""

experiments = Table(
    "experiments",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("document", JSON, nullable=False),
)
"""A deleted experiment keeps its row, with the document ``null``: names are never used again."""

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("before", JSON),
    Column("after", JSON),
    Column("reason", Text),
)

STATISTICS = (
    "responses",
    "errors",
    "truncated",
    "tokens",
    "tokens_squared",
    "seconds",
    "seconds_squared",
    "scored",
    "toxic",
    "repetitive",
    "refusals",
    "anonymous",
    "judged",
    "coherence",
    "coherence_squared",
    "rated",
    "feedback",
    "feedback_squared",
)
"""Columns of ``outcomes`` that are sums, see ``service.experiments.outcomes.totals``."""
FLOATS = frozenset(("seconds", "seconds_squared", "coherence", "coherence_squared", "feedback", "feedback_squared"))
"""Those of them that are floats; the others are integers."""

BUCKETS = 97
"""Columns ``latency_0`` …: responses by seconds, see ``service.experiments.outcomes.totals``."""

WHOLE = -1
"""The ``minute`` of a row of ``outcomes`` that is the sum over all of its replica's minutes."""

outcomes = Table(
    "outcomes",
    metadata,
    Column("experiment", String(64), primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("variant", String(64), primary_key=True),
    Column("replica", String(48), primary_key=True),
    Column("kind", String(8), primary_key=True),
    *(Column(name, Float if name in FLOATS else BigInteger, nullable=False) for name in STATISTICS),
    *(Column(f"latency_{bucket}", BigInteger, nullable=False) for bucket in range(BUCKETS)),
    sqlite_with_rowid=False,
)
"""Each row belongs to one process, which writes its sums as they are. ``minute``: since 1970, or ``WHOLE``. ``kind``:
``all`` responses, or one of each of the ``units``. The key begins with what reports ask for most."""

units = Table(
    "units",
    metadata,
    Column("experiment", String(64), primary_key=True),
    Column("unit", BigInteger, primary_key=True, autoincrement=False),
    Column("batch", String(48), nullable=False),
    Index("units_of_batch", "batch"),
    sqlite_with_rowid=False,
)
"""Users who were counted, by hash: a user counts once in an experiment's tests. ``batch``: the flush that did it."""

answers = Table(
    "answers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("experiment", String(64), nullable=False, index=True),
    Column("epoch", Integer, nullable=False),
    Column("variant", String(64), nullable=False),
    Column("unit", String(32), nullable=False),
    Column("counted", Boolean, nullable=False),
    Column("by_user", Boolean, nullable=False),
    Column("feedback", Float),
    sqlite_with_rowid=False,
)
"""Responses of experiments that feedback may be given on, by hashes of their ids and units; some hours of them."""

flagged = Table(
    "flagged",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False, index=True),
    Column("mask", String(100), nullable=False),
    Column("experiment", String(64)),
    Column("variant", String(64)),
    Column("score", Float, nullable=False),
    Column("text", Text, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("flagged", Integer, primary_key=True, autoincrement=False),
    Column("label", String(32), nullable=False),
    Column("who", String(64), nullable=False),
    Column("at", Float, nullable=False),
)
"""What a person says of a flagged response, by its id; it goes when that goes."""
