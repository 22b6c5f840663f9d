"""The table of jobs. Each change is one transaction with its audit entry, made on the revision that was read in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from service.errors import ConflictError, NotFoundError
from service.jobs.job import OVER, Job
from service.storage import audit
from service.storage.database import Database
from service.storage.tables import jobs as table

Edit = Callable[[Job], Job]
Also = Callable[[Connection, Job], None]
"""What else is to happen in the transaction, or not at all."""

_TRIES = 3
MOST = 1000
"""Jobs that may be going on."""


class Jobs:
    """Jobs in the database. Blocking: call it from a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, job: Job, *, most: int = MOST) -> tuple[Job, bool]:
        """Store a new job; one of the same id and spec is found again. Returns it, and whether it is new.

        Raises `ConflictError` where the id is another's, or `most` jobs are going on.
        """
        with self._database.change() as connection:  # one after the other, so two of one id cannot both be new
            if row := connection.execute(select(table.c.document).where(table.c.id == job.id)).first():
                known = Job.of(row.document)
                if (known.kind, known.spec) != (job.kind, job.spec):
                    raise ConflictError(
                        f"there is a job {job.id!r} that asks for something else", code="job_exists", param="id"
                    )
                return known, False
            going = connection.scalar(select(func.count()).select_from(table).where(table.c.state.not_in(OVER))) or 0
            if going >= most:
                raise ConflictError(f"{going} jobs are going on, as many as there may be", code="too_many_jobs")
            connection.execute(insert(table).values(**_row(job), created_at=job.created_at))
            audit.write(connection, f"create {job.kind} job", f"job {job.id}", after=_told(job))
        return job, True

    def get(self, id: str) -> Job:
        """One job. Raises `NotFoundError`."""
        with self._database.begin(reads=True) as connection:
            return _get(connection, id)

    def going(self) -> list[Job]:
        """Those that are not over, the oldest first."""
        rows = select(table.c.document).where(table.c.state.not_in(OVER)).order_by(table.c.created_at, table.c.id)
        with self._database.begin(reads=True) as connection:
            return [Job.of(row.document) for row in connection.execute(rows)]

    def newest(self, kind: str, mask: str, state: str | None = None) -> Job | None:
        """The newest job of a kind about a mask."""
        rows = select(table.c.document).where(table.c.kind == kind, table.c.mask == mask)
        rows = rows.where(table.c.state == state) if state else rows
        with self._database.begin(reads=True) as connection:
            row = connection.execute(rows.order_by(table.c.created_at.desc()).limit(1)).first()
        return Job.of(row.document) if row else None

    def edit(self, id: str, edit: Edit, action: str, *, also: Also | None = None) -> Job:
        """Change a job. The audit has a line where its state changed. Raises what `edit` and `also` raise.

        `also`: done in the same transaction, with the job as it will be, if the job changed.
        """
        if also is None:  # nothing that other replicas follow
            for _ in range(_TRIES):
                with self._database.begin() as connection:
                    if job := self.move(connection, id, edit, action):
                        return job
            raise ConflictError(f"the job {id!r} is being changed by many; try again", code="changed_since")
        with self._database.change() as connection:
            job = self.move(connection, id, edit, action, also)
        if job is None:  # a heartbeat in between
            raise ConflictError(f"the job {id!r} was changed meanwhile; try again", code="changed_since")
        return job

    def move(self, connection: Connection, id: str, edit: Edit, action: str, also: Also | None = None) -> Job | None:
        """The same in a transaction that has begun; None where somebody else changed the job in between."""
        before = _get(connection, id)
        after = edit(before)
        if after == before:
            return before
        after = replace(after, revision=before.revision + 1)
        changed = update(table).where(table.c.id == id, table.c.revision == before.revision).values(**_row(after))
        if connection.execute(changed).rowcount != 1:
            return None
        if after.state != before.state:
            audit.write(connection, action, f"job {id}", before=_told(before), after=_told(after), reason=after.reason)
        if also:
            also(connection, after)
        return after

    def list(
        self, *, state: str | None = None, kind: str | None = None, offset: int = 0, limit: int = 100
    ) -> tuple[list[Job], int]:
        """The newest first, and how many there are in all."""
        wanted = [table.c.state == state] if state else []
        wanted += [table.c.kind == kind] if kind else []
        rows = select(table.c.document).where(*wanted).order_by(table.c.created_at.desc(), table.c.id)
        with self._database.begin(reads=True) as connection:
            total = connection.scalar(select(func.count()).select_from(table).where(*wanted)) or 0
            return [Job.of(row.document) for row in connection.execute(rows.offset(offset).limit(limit))], total


def _get(connection: Connection, id: str) -> Job:
    document = connection.scalar(select(table.c.document).where(table.c.id == id))
    if document is None:
        raise NotFoundError(f"there is no job {id!r}; GET /jobs lists them", code="job_not_found", param="id")
    return Job.of(document)


def _row(job: Job) -> dict[str, Any]:
    document = job.document()
    columns = {"kind": job.kind, "mask": job.spec.mask, "state": job.state, "revision": job.revision}
    return {"id": job.id, **columns, "document": document}


def _told(job: Job) -> dict[str, Any]:
    """What the audit says of it."""
    worker = {"worker": job.lease.holder} if job.lease else {}
    made = {key: job.made[key] for key in ("mask", "experiment", "verdict", "holds") if key in job.made}
    return {"status": job.state, "asked": job.spec.mask, **worker, **made}
