"""An output folder that appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError

from edits.errors import NotWrittenError


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A hidden sibling to write into, which takes the place of `folder` at the end; after an error it is removed.

    Raises:
        NotWrittenError: `folder` exists and is not empty, or something cannot be written.
    """
    folder = folder.resolve()
    partial = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise NotWrittenError(f"{folder} is there already; give a new or an empty folder")
        partial.mkdir(parents=True)
        yield partial
        partial.replace(folder)
    except (OSError, SafetensorError) as problem:
        raise NotWrittenError(f"{folder} was not written: {problem}") from problem
    finally:
        shutil.rmtree(partial, ignore_errors=True)
