"""The registry: which masks exist, in which versions, and the default route. Survives restarts and SIGKILL.

A mask is a file named by digest in the store folder; its row in the database is written after the file is safely
on disk, so a crash in between leaves at worst a file that no row names. Versions are never reused or changed.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Engine, Integer, String, UniqueConstraint, create_engine, event, func, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import masks
from edits.cover import ranks
from edits.places import is_projection
from masks import bitmask
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.routing import BASE, Share
from service.settings import MAX_RANK


class _Base(DeclarativeBase):
    pass


class _MaskRow(_Base):
    __tablename__ = "masks"
    __table_args__ = (UniqueConstraint("name", "version"),)

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), index=True)
    version: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(Integer)
    registered_at: Mapped[str] = mapped_column(String(32))
    description: Mapped[dict[str, Any]] = mapped_column(JSON)


class _ShareRow(_Base):
    __tablename__ = "route"

    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    target: Mapped[str] = mapped_column(String(128))
    weight: Mapped[float]


class RegistryError(RuntimeError):
    """The store folder or database cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Record:
    """A registered mask: its identity, and what its file says about itself."""

    name: str
    version: int
    digest: str
    size: int
    """Bytes of the mask file."""
    registered_at: str
    """ISO 8601, UTC."""
    description: dict[str, Any]
    """granularity, counts, rank of its weights, base model, made, measured, created_at: from the file."""


def describe(mask: masks.Mask) -> dict[str, Any]:
    """What a mask file says about itself, as JSON."""
    base = mask.meta.base
    return {
        "granularity": mask.granularity,
        "counts": dict(mask.counts),
        "rank": _rank(mask),
        "base": {"id": base.id, "architecture": base.architecture, "fingerprint": base.fingerprint},
        "created_at": mask.meta.created_at,
        "made": json.loads(json.dumps(mask.meta.made)),
        "measured": json.loads(json.dumps(mask.meta.measured)),
    }


def _rank(mask: masks.Mask) -> int | None:
    """What the factors of its single weights take per request; None where some are in no layer's projection.

    Over the largest rank that a server may be started for, it is only a lower bound, which costs nothing: a row or
    column covers no more elements than it has.
    """
    if not all(map(is_projection, mask.weights)):
        return None
    shapes = mask.meta.shapes
    least = max((bitmask.count(cut) // max(shapes[name]) for name, cut in mask.weights.items()), default=0)
    return least if least > MAX_RANK else max(ranks(mask).values(), default=0)


class Registry:
    """Masks and the default route, in a store folder and a database. Blocking: call it from a thread.

    ``base`` and ``parameters`` describe the served model; a mask that does not fit it is refused.
    """

    def __init__(
        self,
        store: Path,
        database_url: str,
        base: masks.BaseModel,
        parameters: dict[str, masks.ParameterInfo],
        *,
        allow_other_base: bool = False,
    ) -> None:
        self.base = base
        self.parameters = parameters
        self._allow_other_base = allow_other_base
        self._files = store / "masks"
        try:
            self._files.mkdir(parents=True, exist_ok=True)
            self._engine = _connect(database_url)
            _Base.metadata.create_all(self._engine)
        except OSError as error:
            raise RegistryError(f"the store folder {store} cannot be used: {error}") from error
        except SQLAlchemyError as error:
            raise RegistryError(f"the database cannot be used: {error}") from error

    def close(self) -> None:
        """Close the database's connections."""
        self._engine.dispose()

    def register(self, data: bytes) -> tuple[Record, bool]:
        """Check and store a mask file. Returns its record, and whether it is new.

        The same bytes again give the same record. Raises ``InvalidRequestError`` for a bad file and ``ConflictError``
        for a mask of another model; either leaves the registry as it was.
        """
        try:
            mask = masks.loads(data)
        except masks.MaskError as error:
            raise InvalidRequestError(str(error), code="invalid_mask") from error
        try:
            self._check(mask)
        except masks.MaskError as error:
            raise ConflictError(str(error), code="mask_for_another_model") from error
        masks.save(mask, self.path(mask.digest))  # atomic; also mends a damaged copy
        if known := self._find(mask.digest):
            return known, False
        description = describe(mask)
        while True:
            with Session(self._engine) as session:
                newest = session.scalar(select(func.max(_MaskRow.version)).where(_MaskRow.name == mask.meta.name))
                row = _MaskRow(
                    digest=mask.digest,
                    name=mask.meta.name,
                    version=(newest or 0) + 1,
                    size=len(data),
                    registered_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    description=description,
                )
                session.add(row)
                try:
                    session.commit()
                except IntegrityError:  # another writer took the version, or registered the same bytes
                    if known := self._find(mask.digest):
                        return known, False
                    continue
                return _record(row), True

    def list(self, *, name: str | None = None, offset: int = 0, limit: int = -1) -> tuple[list[Record], int]:
        """Records by name and version, and how many there are in all. ``limit`` −1 means every one."""
        rows = select(_MaskRow).order_by(_MaskRow.name, _MaskRow.version)
        count = select(func.count()).select_from(_MaskRow)
        if name is not None:
            rows, count = rows.where(_MaskRow.name == name), count.where(_MaskRow.name == name)
        if limit >= 0:
            rows = rows.limit(limit)
        with Session(self._engine) as session:
            total = session.scalar(count) or 0
            return [_record(row) for row in session.scalars(rows.offset(offset))], total

    def get(self, name: str, version: int) -> Record:
        """One record. Raises ``NotFoundError``."""
        with Session(self._engine) as session:
            row = session.scalar(select(_MaskRow).where(_MaskRow.name == name, _MaskRow.version == version))
            if row is None:
                raise NotFoundError(f"there is no mask {name}@{version}", code="mask_not_found")
            return _record(row)

    def rank(self, record: Record) -> int | None:
        """What the factors of its single weights take per request; None where they can only be baked in."""
        if "rank" not in record.description:  # registered by a version that did not tell
            return _rank(self.load(record.digest)) if record.description["counts"]["weights"] else 0
        found: int | None = record.description["rank"]
        return found

    def path(self, digest: str) -> Path:
        """Where the bytes of a registered mask are."""
        return self._files / f"{digest}.safetensors"

    def load(self, digest: str) -> masks.Mask:
        """Read a registered mask back, checking that the file still is what was registered, and fits this model.

        Raises ``RegistryError`` for a damaged file and ``masks.MaskError`` for a mask of another model: a store may be
        opened with another model than before.
        """
        try:
            mask = masks.load(self.path(digest))
        except (OSError, masks.MaskError) as error:
            raise RegistryError(
                f"the stored file of mask {digest[:12]} is damaged: {error}; register it again"
            ) from error
        if mask.digest != digest:
            raise RegistryError(f"the stored file of mask {digest[:12]} has changed on disk; register the mask again")
        self._check(mask)
        return mask

    def foreign(self, record: Record) -> str:
        """The fingerprint that ``record`` was made for, where this model's is another and must not be; or empty."""
        fingerprint: str = record.description["base"]["fingerprint"]
        return "" if self._allow_other_base or fingerprint == self.base.fingerprint else fingerprint

    def _check(self, mask: masks.Mask) -> None:
        masks.check(mask, self.base, self.parameters, allow_other_base=self._allow_other_base)

    def route(self) -> tuple[Share, ...]:
        """The default route; the uncorrected model if none was ever set."""
        with Session(self._engine) as session:
            rows = session.scalars(select(_ShareRow).order_by(_ShareRow.position)).all()
            return tuple(Share(row.target, row.weight) for row in rows) or (Share(BASE),)

    def set_route(self, route: tuple[Share, ...]) -> None:
        """Replace the default route in one transaction."""
        with Session(self._engine) as session:
            for old in session.scalars(select(_ShareRow)):
                session.delete(old)
            session.flush()
            session.add_all(_ShareRow(position=i, target=s.target, weight=s.weight) for i, s in enumerate(route))
            session.commit()

    def _find(self, digest: str) -> Record | None:
        with Session(self._engine) as session:
            row = session.get(_MaskRow, digest)
            return _record(row) if row else None


def _record(row: _MaskRow) -> Record:
    return Record(row.name, row.version, row.digest, row.size, row.registered_at, row.description)


def _connect(url: str) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _durable(connection: Any, _: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA busy_timeout=10000")

    return engine
