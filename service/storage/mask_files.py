"""Mask files by digest: a folder, shared by replicas where it is on shared storage, or an object store through fsspec.

The engine reads masks from the local disk. With an object store, files are kept there and copied to a local cache.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import masks


class StoreError(RuntimeError):
    """The store cannot be used, or a file in it is damaged; the message says which and why."""


class MaskFiles:
    """Where the bytes of masks are. Blocking: call it from a thread."""

    def __init__(self, store: str | Path) -> None:
        """`store`: a folder, or a URL that fsspec knows (`s3://bucket/masks`).

        Raises:
            StoreError: the store cannot be used.
        """
        self._remote: Any = None
        self._root = ""
        try:
            if "://" in str(store):
                self._remote, self._root = importlib.import_module("fsspec").url_to_fs(str(store))
                self._remote.makedirs(self._root, exist_ok=True)
                self.folder = Path(tempfile.mkdtemp(prefix="excise-masks-"))
                weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)  # a cache, no more
            else:
                self.folder = Path(store) / "masks"
                self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError, ImportError) as error:
            raise StoreError(f"the store {store} cannot be used: {error}") from error

    def path(self, digest: str) -> Path:
        """Where the engine finds the file of a registered mask, once it was saved or fetched."""
        return self.folder / f"{digest}.safetensors"

    def save(self, mask: masks.Mask) -> None:
        """Keep a mask's bytes, atomically; also mends a damaged copy.

        Raises:
            StoreError: the store does not take it.
        """
        path = self.path(mask.digest)
        try:
            masks.save(mask, path)
            if self._remote:
                self._remote.pipe_file(f"{self._root}/{path.name}", path.read_bytes())
        except OSError as error:
            raise StoreError(f"the store cannot take the file of mask {mask.digest[:12]}: {error}") from error

    def fetched(self, digest: str) -> Path:
        """Where the file is; copied there first where it is in an object store only.

        Raises:
            StoreError: the store does not give it.
        """
        path = self.path(digest)
        try:
            if self._remote and not path.exists():
                self._fetch(path)
        except OSError as error:
            raise StoreError(f"the store does not give mask {digest[:12]}: {error}; register it again") from error
        return path

    def load(self, digest: str) -> masks.Mask:
        """Read a mask back, and check that it still is what was saved.

        Raises:
            StoreError: the file is missing, damaged or another.
        """
        path = self.fetched(digest)
        try:
            mask = masks.load(path)
        except (OSError, masks.MaskError) as error:
            raise StoreError(f"the stored file of mask {digest[:12]} is damaged: {error}; register it again") from error
        if mask.digest != digest:
            raise StoreError(f"the stored file of mask {digest[:12]} has changed on disk; register the mask again")
        return mask

    def _fetch(self, path: Path) -> None:
        """Copy a file from the object store; it gets its name once it is whole."""
        handle, name = tempfile.mkstemp(dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self._remote.cat_file(f"{self._root}/{path.name}"))
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise

    def remove(self, digest: str) -> None:
        """Forget a file. What is gone already is no error.

        Raises:
            StoreError: the store cannot delete it.
        """
        path = self.path(digest)
        try:
            path.unlink(missing_ok=True)
            if self._remote:
                with contextlib.suppress(FileNotFoundError):
                    self._remote.rm_file(f"{self._root}/{path.name}")
        except OSError as error:
            raise StoreError(f"the store cannot forget the file of mask {digest[:12]}: {error}") from error
