"""The registry: which masks exist, in which versions. Survives restarts and SIGKILL.

A mask is a file named by digest in the store; its row in the database is written after the file is safely on disk, so
a crash in between leaves at worst a file that no row names. Versions are never reused or changed.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

import masks
from edits.cover import ranks
from edits.places import is_projection
from masks import bitmask, harm
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.routing.mask_warnings import labelled
from service.routing.policy import BASE
from service.settings import MAX_RANK
from service.storage import audit
from service.storage.database import Database, DatabaseLostError
from service.storage.mask_files import MaskFiles, StoreError
from service.storage.tables import masks as table

_log = logging.getLogger(__name__)


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
    """granularity, counts, dampened, rank of its weights, base model, made, measured, created_at: from the file."""

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What it says against itself (`masks.harm`)."""
        return harm.warnings(self.description["measured"])


def describe(mask: masks.Mask) -> dict[str, Any]:
    """What a mask file says about itself, as JSON."""
    base = mask.meta.base
    return {
        "granularity": mask.granularity,
        "counts": dict(mask.counts),
        "dampened": mask.dampened,
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
    """Masks in a store of files and a database. Blocking: call it from a thread.

    `base` and `parameters` describe the served model; a mask that does not fit it is refused.
    """

    def __init__(
        self,
        files: MaskFiles,
        database: Database,
        base: masks.BaseModel,
        parameters: dict[str, masks.ParameterInfo],
        *,
        allow_other_base: bool = False,
        max_masks: int = 10_000,
    ) -> None:
        self.base = base
        self.parameters = parameters
        self.files = files
        self._database = database
        self._allow_other_base = allow_other_base
        self._max_masks = max_masks

    def register(self, data: bytes) -> tuple[Record, bool]:
        """Check and store a mask file. Returns its record, and whether it is new.

        The same bytes again give the same record, also after they were deleted.

        Raises:
            InvalidRequestError: the file is bad.
            ConflictError: it is of another model, or one too many; either leaves the registry as it was.
        """
        try:
            mask = masks.loads(data)
        except masks.MaskError as error:
            raise InvalidRequestError(str(error), code="invalid_mask") from error
        try:
            self._check(mask)
        except masks.MaskError as error:
            raise ConflictError(str(error), code="mask_for_another_model") from error
        description = describe(mask)
        known = self._find(mask.digest)
        if known is None:
            self._check_room()
        self.files.save(mask)
        if known:
            return known, False
        with self._database.change(masks=True) as connection:  # one after the other, so no two take the same version
            row = connection.execute(select(table).where(table.c.digest == mask.digest)).one_or_none()
            if row is None:
                newest = connection.scalar(select(func.max(table.c.version)).where(table.c.name == mask.meta.name))
                connection.execute(
                    insert(table).values(
                        digest=mask.digest,
                        name=mask.meta.name,
                        version=(newest or 0) + 1,
                        size=len(data),
                        registered_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                        description=description,
                    )
                )
            elif row.deleted:
                self.files.save(mask)  # it may have been removed since
                connection.execute(update(table).where(table.c.digest == mask.digest).values(deleted=False))
            record = _record(connection.execute(select(table).where(table.c.digest == mask.digest)).one())
            if row is None or row.deleted:
                warnings = labelled(record.label, record.warnings)
                audit.write(connection, "register", record.label, after={"digest": record.digest}, warnings=warnings)
                return record, True
            return record, False

    def delete(self, name: str, version: int, *, check: Callable[[Connection, Record], None]) -> Record:
        """Take a version out. Its number is never used again.

        `check` raises, in the same transaction, where something still uses it. The file goes last: a crash in between
        leaves a file that no row names, never a row without its file.

        Raises:
            NotFoundError: there is no such mask.
        """
        with self._database.change(masks=True) as connection:
            record = self._get(connection, name, version)
            check(connection, record)
            connection.execute(update(table).where(table.c.digest == record.digest).values(deleted=True))
            audit.write(connection, "delete", record.label, before={"digest": record.digest})
        try:
            with self._database.change() as connection:  # so that nobody can register it again in between
                if connection.scalar(select(table.c.deleted).where(table.c.digest == record.digest)):
                    self.files.remove(record.digest)
        except (DatabaseLostError, StoreError) as error:
            _log.warning("mask %s was deleted, its file was not: %s", record.label, error)
        return record

    def list(self, *, name: str | None = None, offset: int = 0, limit: int | None = None) -> tuple[list[Record], int]:
        """Records by name and version, and how many there are in all."""
        wanted = [~table.c.deleted] if name is None else [~table.c.deleted, table.c.name == name]
        rows = select(table).where(*wanted).order_by(table.c.name, table.c.version).offset(offset).limit(limit)
        with self._database.begin(reads=True) as connection:
            total = connection.scalar(select(func.count()).select_from(table).where(*wanted)) or 0
            return [_record(row) for row in connection.execute(rows)], total

    def digests(self) -> dict[str, tuple[str, int]]:
        """Digest → name and version of every mask, by name and version. Quick, also for many."""
        rows = select(table.c.digest, table.c.name, table.c.version).where(~table.c.deleted)
        with self._database.begin(reads=True) as connection:
            result = connection.execute(rows.order_by(table.c.name, table.c.version))
            return {row.digest: (row.name, row.version) for row in result}

    def get(self, name: str, version: int) -> Record:
        """One record.

        Raises:
            NotFoundError: there is no such mask.
        """
        with self._database.begin(reads=True) as connection:
            return self._get(connection, name, version)

    def path(self, digest: str) -> Path:
        """Where the engine finds the bytes of a registered mask."""
        return self.files.path(digest)

    def load(self, digest: str) -> masks.Mask:
        """Read a registered mask back, checking that the file still is what was registered, and fits this model.

        Raises:
            StoreError: the file is damaged.
            masks.MaskError: the mask is of another model: a store may be opened with another model than before.
        """
        mask = self.files.load(digest)
        self._check(mask)
        return mask

    def foreign(self, record: Record) -> str:
        """The fingerprint that `record` was made for, where this model's is another and must not be; or empty."""
        fingerprint: str = record.description["base"]["fingerprint"]
        return "" if self._allow_other_base or fingerprint == self.base.fingerprint else fingerprint

    def _check(self, mask: masks.Mask) -> None:
        masks.check(mask, self.base, self.parameters, allow_other_base=self._allow_other_base)

    def _check_room(self) -> None:
        with self._database.begin(reads=True) as connection:
            count = connection.scalar(select(func.count()).select_from(table).where(~table.c.deleted)) or 0
        if count >= self._max_masks:
            raise ConflictError(
                f"{count} masks are registered, as many as this server takes (EXCISE_MAX_MASKS); delete some first",
                code="too_many_masks",
            )

    def _get(self, connection: Connection, name: str, version: int) -> Record:
        row = connection.execute(
            select(table).where(table.c.name == name, table.c.version == version, ~table.c.deleted)
        ).one_or_none()
        if row is None:
            raise NotFoundError(f"there is no mask {name}@{version}", code="mask_not_found")
        return _record(row)

    def records(self, digests: Sequence[str]) -> dict[str, Record]:
        """Digest → record, of those that are registered."""
        records: dict[str, Record] = {}
        with self._database.begin(reads=True) as connection:
            for start in range(0, len(digests), 500):
                some = select(table).where(table.c.digest.in_(digests[start : start + 500]))
                records |= {row.digest: _record(row) for row in connection.execute(some)}
        return records

    def measured(self, labels: Iterable[str]) -> dict[str, Any]:
        """`name@version` → what was measured of it, of those that are or were registered."""
        measurements: dict[str, Any] = {}
        with self._database.begin(reads=True) as connection:
            for name, _, version in (label.partition("@") for label in labels if label != BASE):
                of_one = select(table.c.description).where(table.c.name == name, table.c.version == int(version))
                if description := connection.scalar(of_one):
                    measurements[f"{name}@{version}"] = description["measured"]
        return measurements

    def _find(self, digest: str) -> Record | None:
        with self._database.begin(reads=True) as connection:
            row = connection.execute(select(table).where(table.c.digest == digest, ~table.c.deleted)).one_or_none()
            return _record(row) if row else None


def _record(row: Row[Any]) -> Record:
    return Record(row.name, row.version, row.digest, row.size, row.registered_at, row.description)
