"""Reference sets: the prompts or texts that relevance is averaged over, and on which a mask is measured."""

import csv
import hashlib
import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
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
        responses: what was said to each prompt, where that is known: attribution from responses starts there.
    """

    texts: tuple[str, ...]
    name: str
    kind: Kind
    responses: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.texts:
            raise ReferenceSetError(f"{self.name}: the reference set is empty")
        for number, text in enumerate((*self.texts, *(self.responses or ())), 1):
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise ReferenceSetError(
                    f"{self.name}: number {number} holds half a surrogate pair, which is no Unicode; take it out"
                )
        if self.responses is not None and (self.kind != "prompt" or len(self.responses) != len(self.texts)):
            raise ReferenceSetError(f"{self.name}: responses belong to prompts, one to each")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def sha256(self) -> str:
        """Of the texts, then the responses, as UTF-8, each followed by a zero byte, whatever file they came in."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(text.encode() + b"\0")
        if self.responses is not None:
            digest.update(b"\0")  # no text is blank
        for text in self.responses or ():
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()

    def taken(self, places: Sequence[int]) -> "ReferenceSet":
        """Those at these places, with their responses.

        Raises:
            ReferenceSetError: there are none.
        """
        responses = None if self.responses is None else tuple(self.responses[place] for place in places)
        return replace(self, texts=tuple(self.texts[place] for place in places), responses=responses)

    def split(self, held_out: float, seed: int = 0) -> tuple["ReferenceSet", "ReferenceSet"]:
        """Two sets, the second with this fraction of the distinct texts, drawn with the seed.

        Copies of a text stay together, so that nothing held out was ever seen. Both keep the order of this set.

        Raises:
            ReferenceSetError: the fraction is not inside (0, 1), or either side would be empty.
        """
        distinct = list(dict.fromkeys(normalised(text) for text in self.texts))
        size = max(1, round(held_out * len(distinct)))
        if not 0 < held_out < 1 or size >= len(distinct):
            raise ReferenceSetError(
                f"{self.name}: cannot hold out a fraction of {held_out} of {len(distinct)} distinct texts; "
                "give a fraction between 0 and 1 that leaves some on both sides"
            )
        drawn = np.random.default_rng(seed).permutation(len(distinct))[:size]
        away = {distinct[index] for index in drawn}
        held = [normalised(text) in away for text in self.texts]
        return (
            self.taken([place for place, out in enumerate(held) if not out]),
            self.taken([place for place, out in enumerate(held) if out]),
        )


def overlap(a: ReferenceSet, b: ReferenceSet) -> tuple[str, ...]:
    """The texts of `a` that `b` has too, but for letter case and white space, in the order of `a`."""
    other = {normalised(text) for text in b.texts}
    return tuple(text for text in a.texts if normalised(text) in other)


def read(source: str | Path, *, kind: Kind = "text", limit: int | None = None, whole: bool = False) -> ReferenceSet:
    """Read a reference set.

    Args:
        source: a `.jsonl` file with a string under `prompt` or `text` in each line, or RealToxicityPrompts' own shape
            `{"prompt": {"text": …}}`, and for prompts perhaps a `response`; a `.csv` file with such columns, or
            `file.csv:column`; a `.txt` file with one on each line; or `hf:dataset[:split[:column]]`.
        kind: what they are to be used as, whatever the column is called; it is looked for first under its own name.
        limit: read only this many, from the start.
        whole: a `.txt` file is one text, line breaks and all.

    Raises:
        ReferenceSetError: no such file, another format, not UTF-8, a wrong column, or nothing in it.
    """
    spec = str(source)
    if spec.startswith("hf:"):
        return _from_hub(spec, kind, limit)
    file, _, column = spec.partition(".csv:")
    path = Path(f"{file}.csv" if column else spec)
    if path.suffix == ".jsonl":
        return _from_records(islice(_json_lines(path), limit), path.name, kind)
    if path.suffix == ".csv":
        return _from_records(islice(_csv_rows(path), limit), path.name, kind, column)
    if path.suffix != ".txt":
        raise ReferenceSetError(
            f"{path.name}: a reference set is a .jsonl, .csv or .txt file, or hf:dataset[:split[:column]]"
        )
    lines = [_decoded(path)] if whole else _decoded(path).splitlines()
    return ReferenceSet(tuple(line for line in lines if line.strip())[:limit], path.name, kind)


def normalised(text: str) -> str:
    """The text but for letter case and white space: two that agree in it count as copies."""
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


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    rows = csv.DictReader(_decoded(path).splitlines(keepends=True), strict=True)
    try:
        for row in rows:
            yield f"{path.name}, line {rows.line_num}", row
    except csv.Error as error:
        raise ReferenceSetError(f"{path.name}, line {rows.line_num}: not CSV: {error}") from error


def _from_records(records: Iterable[tuple[str, Any]], name: str, kind: Kind, column: str = "") -> ReferenceSet:
    """The set of (place, record) pairs; where no column is named, the first record says which one counts."""
    texts, responses = [], []
    answered = False
    for number, (place, record) in enumerate(records):
        if number == 0:
            columns = [str(key) for key in record] if isinstance(record, dict) else []
            order = ("prompt", "text") if kind == "prompt" else ("text", "prompt")
            column = column or next((candidate for candidate in order if candidate in columns), "")
            if not column:
                raise ReferenceSetError(
                    f"{place}: needs a string under 'prompt' or 'text'; its columns are: "
                    f"{', '.join(sorted(columns)) or 'none'}"
                )
            answered = kind == "prompt" and "response" in columns
        texts.append(_string(record, column, place))
        if answered:
            responses.append(_string(record, "response", place, blank=True))
    if not texts:
        raise ReferenceSetError(f"{name}: the reference set is empty")
    return ReferenceSet(tuple(texts), name, kind, tuple(responses) if answered else None)


def _string(record: Any, column: str, place: str, blank: bool = False) -> str:
    value = record.get(column) if isinstance(record, dict) else None
    if isinstance(value, dict):  # RealToxicityPrompts keeps the scores of a prompt beside its text
        value = value.get("text")
    if not isinstance(value, str) or not (blank or value.strip()):
        columns = ", ".join(sorted(str(key) for key in record)) if isinstance(record, dict) else "none"
        raise ReferenceSetError(f"{place}: no text under {column!r}; the columns are: {columns}")
    return value


def _from_hub(spec: str, kind: Kind, limit: int | None) -> ReferenceSet:
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
    return _from_records(islice(places, limit), spec, kind, column)
