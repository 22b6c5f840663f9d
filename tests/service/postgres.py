"""A real PostgreSQL of our own, for tests. It ends with this process, however that ends.

Debian's package is ``postgresql``. The programs are looked for on the PATH (Debian keeps them off it) and in
``/usr/lib/postgresql/*/bin``, the newest first. PostgreSQL refuses root; there it runs as ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

SETTINGS = {
    "listen_addresses": "",  # only a socket in our folder: no port that somebody else has, and nobody else comes in
    "max_connections": "60",
    "shared_buffers": "32MB",
    "fsync": "off",  # a killed process loses nothing that the kernel has, and nobody turns off the machine
    "max_wal_size": "256MB",
    "log_min_messages": "warning",
}

_GUARD = """
import shutil, subprocess, sys
sys.stdin.read()  # until the tests close it, or are no more
folder, stop, who = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
subprocess.run(stop, cwd=folder, **({"user": who, "extra_groups": []} if who else {}))
shutil.rmtree(folder, ignore_errors=True)
"""


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, or None."""
    folders = [Path(path).resolve().parent for path in [shutil.which("postgres")] if path]
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda path: float(path.parent.name), reverse=True)
    return next((path for path in folders if (path / "initdb").exists()), None)


def reason_against() -> str | None:
    """Why there can be no PostgreSQL here, or None."""
    if programs() is None:
        return "PostgreSQL is not installed (Debian: apt install postgresql)"
    if os.geteuid() == 0 and not _other_user():
        return "PostgreSQL refuses root, and there is no user postgres or nobody to run it as"
    return None


class Postgres:
    """A server with its own data, listening on a socket in its folder. ``url()`` is that of a new, empty database.

    Attributes:
        folder: where its data and its socket are; its user may go there.
    """

    def __init__(self) -> None:
        program_folder = programs()
        assert program_folder is not None, reason_against()
        self._programs = program_folder
        self._names = (f"test{number}" for number in itertools.count())
        self._as: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="excise-pg-", dir="/tmp"))  # a socket's path has 107 characters
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        who = _other_user() if os.geteuid() == 0 else ""
        if who:
            self._as = {"user": who, "group": pwd.getpwnam(who).pw_gid, "extra_groups": []}
            os.chown(self.folder, pwd.getpwnam(who).pw_uid, -1)
        stop = [str(self._programs / "pg_ctl"), "stop", "-D", str(self._data), "-m", "immediate", "-s", "-t", "10"]
        self._guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, str(self.folder), *stop, who],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._run("initdb", "-D", str(self._data), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
            self.start()
        except BaseException:
            self.close()
            raise

    def url(self) -> str:
        """Of a new, empty database."""
        name = next(self._names)
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://test@/{name}?host={self.folder}"

    def url_on(self, disk: Path) -> str:
        """Of a new database whose tables lie on this disk, under ``folder``. ``drop`` it before the disk goes."""
        if self._as:
            os.chown(disk, pwd.getpwnam(self._as["user"]).pw_uid, -1)
        url = self.url()
        name = _name(url)
        self.sql(f"CREATE TABLESPACE space_{name} LOCATION '{disk}'")
        self.sql(f"ALTER DATABASE {name} SET TABLESPACE space_{name}")
        return url

    def drop(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.sql(f"DROP DATABASE IF EXISTS {_name(url)} WITH (FORCE)")
        self.sql(f"DROP TABLESPACE IF EXISTS space_{_name(url)}")

    def sql(self, command: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one command as the superuser; return its rows."""
        with psycopg.connect(self._address(database), autocommit=True) as connection:
            cursor = connection.execute(command)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def start(self, limit: float = 60) -> None:
        """Start it, after ``kill`` as well, and wait until it answers."""
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        deadline = time.monotonic() + limit
        while True:
            if self._process is None or self._process.poll() is not None:  # processes of one killed may live a moment
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self.folder), *options],
                        cwd=self.folder,
                        env={"PATH": os.defpath},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        **self._as,
                    )
            with contextlib.suppress(psycopg.OperationalError):
                self.sql("SELECT 1")
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{self._log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes, as if the machine had lost its power."""
        assert self._process is not None
        family = [self._process.pid, *_children(self._process.pid)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Stop it and delete its data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(60)
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(60)

    def _address(self, database: str) -> str:
        return f"host={self.folder} user=test dbname={database} connect_timeout=5"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self.folder,
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            timeout=120,
            **self._as,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")


def _name(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


def _other_user() -> str:
    """A user for PostgreSQL who is not root, or an empty string."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    return ""


def _children(pid: int) -> list[int]:
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                pids.append(int(stat.parent.name))
    return pids
