"""Reference sets: the prompts or texts that relevance is averaged over, and on which a mask is measured."""

import hashlib
import importlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from correction.errors import ReferenceSetError

Kind = Literal["prompt", "text"]


@dataclass(frozen=True)
class ReferenceSet:
    """Prompts that a model answers, or texts as they stand.

    Attributes:
        texts: at least one, none blank.
        name: where they came from, without folders.
        kind: `prompt`: rendered through the chat template, if any; `text`: used as it is.
    """

    texts: tuple[str, ...]
    name: str
    kind: Kind

    def __post_init__(self) -> None:
        if not self.texts:
            raise ReferenceSetError(f"{self.name}: the reference set is empty")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def sha256(self) -> str:
        """Of the texts as UTF-8, each followed by a zero byte: the same for the same texts in any file format."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()

    def split(self, held_out: float, seed: int = 0) -> tuple["ReferenceSet", "ReferenceSet"]:
        """Two sets, the second with this fraction of the distinct texts, drawn with the seed.

        Copies of a text stay together, so that nothing held out was ever seen. Both keep the order of this set.

        Raises:
            ReferenceSetError: the fraction is not inside (0, 1), or either side would be empty.
        """
        distinct = list(dict.fromkeys(_normalised(text) for text in self.texts))
        size = max(1, round(held_out * len(distinct)))
        if not 0 < held_out < 1 or size >= len(distinct):
            raise ReferenceSetError(
                f"{self.name}: cannot hold out a fraction of {held_out} of {len(distinct)} distinct texts; "
                "give a fraction between 0 and 1 that leaves some on both sides"
            )
        drawn = np.random.default_rng(seed).permutation(len(distinct))[:size]
        away = {distinct[index] for index in drawn}
        return (
            ReferenceSet(tuple(t for t in self.texts if _normalised(t) not in away), self.name, self.kind),
            ReferenceSet(tuple(t for t in self.texts if _normalised(t) in away), self.name, self.kind),
        )


def overlap(a: ReferenceSet, b: ReferenceSet) -> tuple[str, ...]:
    """The texts of `a` that `b` has too, but for letter case and white space, in the order of `a`."""
    other = {_normalised(text) for text in b.texts}
    return tuple(text for text in a.texts if _normalised(text) in other)


def read(source: str | Path, *, kind: Kind = "text", limit: int | None = None) -> ReferenceSet:
    """Read a reference set.

    Args:
        source: a `.jsonl` file with a string under `prompt` or `text` in each line, or RealToxicityPrompts' own shape
            `{"prompt": {"text": …}}`; a `.txt` file with one on each line; or `hf:dataset[:split[:column]]`.
        kind: what they are to be used as, whatever the column is called; it is looked for first under its own name.
        limit: read only this many, from the start.

    Raises:
        ReferenceSetError: no such file, another format, not UTF-8, a wrong column, or nothing in it.
    """
    spec = str(source)
    if spec.startswith("hf:"):
        texts = _from_hub(spec, kind)
        name = spec
    else:
        path = Path(spec)
        name = path.name
        if path.suffix == ".jsonl":
            texts = _from_records(_json_lines(path), name, kind)
        elif path.suffix == ".txt":
            texts = [line for line in _decoded(path).splitlines() if line.strip()]
        else:
            raise ReferenceSetError(f"{name}: a reference set is a .jsonl or .txt file, or hf:dataset[:split[:column]]")
    return ReferenceSet(tuple(texts[:limit]), name, kind)


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split())


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReferenceSetError(
            f"{path.name}: not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from error
    except OSError as error:
        raise ReferenceSetError(f"{path}: cannot be read: {error.strerror}") from error


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_decoded(path).split("\n"), 1):
        if line.strip():
            try:
                yield f"{path.name}, line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise ReferenceSetError(f"{path.name}, line {number}: not JSON: {error}") from error


def _from_records(records: Iterable[tuple[str, Any]], name: str, kind: Kind) -> list[str]:
    """The texts of (place, record) pairs; the first record says which column counts."""
    column: Kind | None = None
    texts = []
    for place, record in records:
        if column is None:
            columns = sorted(record) if isinstance(record, dict) else []
            order: tuple[Kind, ...] = ("prompt", "text") if kind == "prompt" else ("text", "prompt")
            column = next((candidate for candidate in order if candidate in columns), None)
            if column is None:
                raise ReferenceSetError(
                    f"{place}: needs a string under 'prompt' or 'text'; its columns are: {', '.join(columns) or 'none'}"
                )
        texts.append(_string(record, column, place))
    if column is None:
        raise ReferenceSetError(f"{name}: the reference set is empty")
    return texts


def _string(record: Any, column: str, place: str) -> str:
    value = record.get(column) if isinstance(record, dict) else None
    if isinstance(value, dict):  # RealToxicityPrompts keeps the scores of a prompt beside its text
        value = value.get("text")
    if not isinstance(value, str) or not value.strip():
        columns = ", ".join(sorted(record)) if isinstance(record, dict) else "none"
        raise ReferenceSetError(f"{place}: no text under {column!r}; the columns are: {columns}")
    return value


def _from_hub(spec: str, kind: Kind) -> list[str]:
    dataset, split, column, *extra = [*spec.removeprefix("hf:").split(":"), "", ""]
    if not dataset or any(extra):
        raise ReferenceSetError(f"{spec}: write it as hf:dataset[:split[:column]]")
    try:
        library = importlib.import_module("datasets")
    except ImportError as error:
        raise ReferenceSetError(f"{spec}: reading from the hub needs a package more: pip install datasets") from error
    try:
        rows = library.load_dataset(dataset, split=split or "train")
    except (OSError, ValueError) as error:
        raise ReferenceSetError(f"{spec}: {error}") from error
    places = ((f"{spec}, row {number}", row) for number, row in enumerate(rows))
    if not column:
        return _from_records(places, spec, kind)
    if column not in rows.column_names:
        raise ReferenceSetError(f"{spec}: no column {column!r}; there is: {', '.join(rows.column_names)}")
    return [_string(row, column, place) for place, row in places]
