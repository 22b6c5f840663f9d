"""Reference sets: the prompts or texts that relevance is averaged over, and on which a mask is measured."""

import hashlib
import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from correction.data import conversations, rows
from correction.data.rows import Row
from correction.errors import ReferenceSetError

Kind = Literal["prompt", "text"]

_COLUMN = re.compile(r"(.*\.csv):(.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class ReferenceSet:
    """Prompts that a model answers, or texts as they stand.

    Attributes:
        texts: At least one, none blank.
        name: Where they came from, without folders.
        kind: `prompt`: rendered through the chat template, if any; `text`: used as it is.
        responses: The response to each prompt, if known for all of them: attribution from responses starts there.
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
        """Of the texts, then the responses, as UTF-8, each followed by a zero byte; independent of the file format."""
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
            ReferenceSetError: There are none.
        """
        responses = None if self.responses is None else tuple(self.responses[place] for place in places)
        return replace(self, texts=tuple(self.texts[place] for place in places), responses=responses)

    def split(self, held_out: float, seed: int = 0) -> tuple["ReferenceSet", "ReferenceSet"]:
        """Two sets, the second with this fraction of the distinct texts, drawn with the seed.

        Copies of a text stay together, so that nothing held out is in the other set. Both keep the order of this set.

        Raises:
            ReferenceSetError: The fraction is not inside (0, 1), or either side would be empty.
        """
        distinct = list(dict.fromkeys(normalise_text(text) for text in self.texts))
        size = max(1, round(held_out * len(distinct)))
        if not 0 < held_out < 1 or size >= len(distinct):
            raise ReferenceSetError(
                f"{self.name}: cannot hold out a fraction of {held_out} of {len(distinct)} distinct texts; "
                "give a fraction between 0 and 1 that leaves some on both sides"
            )
        drawn = np.random.default_rng(seed).permutation(len(distinct))[:size]
        away = {distinct[index] for index in drawn}
        held = [normalise_text(text) in away for text in self.texts]
        return (
            self.taken([place for place, out in enumerate(held) if not out]),
            self.taken([place for place, out in enumerate(held) if out]),
        )


def overlap(a: ReferenceSet, b: ReferenceSet) -> tuple[str, ...]:
    """The texts of `a` that `b` has too, but for letter case and white space, in the order of `a`."""
    other = {normalise_text(text) for text in b.texts}
    return tuple(text for text in a.texts if normalise_text(text) in other)


def read(source: str | Path, *, kind: Kind = "text", limit: int | None = None, whole: bool = False) -> ReferenceSet:
    """Read a reference set.

    Args:
        source: A `.jsonl` or `.json` file of rows, one a line or pretty-printed or in an array, with a string under
            `prompt` or `text`, or RealToxicityPrompts' own shape `{"prompt": {"text": …}}`, and for prompts perhaps a
            `response`; or of conversations and instructions, see `conversations`; a `.csv` file with such columns, or
            `file.csv:column`; a `.txt` file with one on each line; or `hf:dataset[:split[:column]]`.
        kind: What they are to be used as. A column of that name is looked for first.
        limit: Read only this many, from the start.
        whole: A `.txt` file is one text, line breaks and all.

    Raises:
        ReferenceSetError: No such file, another format, not UTF-8, a wrong column, or nothing in it.
    """
    spec = str(source)
    if spec.startswith("hf:"):
        return _from_hub(spec, kind, limit)
    path, column = Path(spec), ""
    if named := _COLUMN.fullmatch(spec):
        path, column = Path(named[1]), named[2]
    form = path.suffix.lower()
    if form in (".jsonl", ".ndjson", ".json"):
        return _from_records(islice(rows.json_rows(path), limit), path.name, kind)
    if form == ".csv":
        return _from_records(islice(rows.csv_rows(path), limit), path.name, kind, column)
    if form != ".txt":
        raise ReferenceSetError(
            f"{path.name}: a reference set is a .jsonl, .json, .csv or .txt file, or hf:dataset[:split[:column]]"
        )
    lines = [rows.decoded(path)] if whole else rows.lines(path)
    return ReferenceSet(tuple(line for line in lines if line.strip())[:limit], path.name, kind)


def normalise_text(text: str) -> str:
    """The text but for letter case and white space: two that agree in it count as copies."""
    return " ".join(text.casefold().split())


def _from_records(records: Iterable[Row], name: str, kind: Kind, column: str = "") -> ReferenceSet:
    """The set of these rows; where no column is named, the first row decides which one it is."""
    texts, responses = [], []
    shape: _Shape | None = None
    for place, record in records:
        shape = shape or _Shape.of(record, place, kind, column)
        text, response = shape.read(record, place)
        texts.append(text)
        responses.append(response)
    if not texts:
        raise ReferenceSetError(f"{name}: the reference set is empty")
    answers = tuple(response for response in responses if response is not None)
    return ReferenceSet(tuple(texts), name, kind, answers if len(answers) == len(texts) else None)


@dataclass(frozen=True)
class _Shape:
    """Where the rows of a file have their text: under a column, or as turns alone (no column)."""

    kind: Kind
    column: str
    answered: bool

    @classmethod
    def of(cls, record: Any, place: str, kind: Kind, column: str) -> "_Shape":
        columns = _columns(record)
        first, last = ("prompt", "text") if kind == "prompt" else ("text", "prompt")
        order = (first, *conversations.COLUMNS, conversations.INSTRUCTION, last)
        column = column or next((each for each in order if each in columns), "")
        if not column and not conversations.is_turns(record):
            raise ReferenceSetError(
                f"{place}: needs a text under 'prompt' or 'text', a conversation under 'messages' or 'conversations', "
                f"or an 'instruction'; its columns are: {', '.join(sorted(columns)) or 'none'}"
            )
        return cls(kind, column, kind == "prompt" and "response" in columns)

    def read(self, record: Any, place: str) -> tuple[str, str | None]:
        """Text, and response if there is one, of a row. Raises `ReferenceSetError`."""
        value = record.get(self.column) if isinstance(record, dict) else None if self.column else record
        response = None
        if isinstance(value, dict):  # RealToxicityPrompts keeps the scores of a prompt beside its text
            value = value.get("text")
        if conversations.is_turns(value):
            value, response = self._told(conversations.whole(value), conversations.first_exchange(value))
        elif self.column == conversations.INSTRUCTION and isinstance(value, str):
            value, response = self._told(conversations.instruction_whole(record), conversations.instruction(record))
        if self.answered:
            response = record.get("response") if isinstance(record, dict) else None
            if not isinstance(response, str):  # it may be blank
                raise ReferenceSetError(f"{place}: no text under 'response'{_named(record)}")
        if not isinstance(value, str) or not value.strip():
            where = f" under {self.column!r}" if self.column else ""
            raise ReferenceSetError(f"{place}: no text{where}{_named(record)}")
        return value, response

    def _told(self, whole: str, exchange: tuple[str, str | None]) -> tuple[str, str | None]:
        return exchange if self.kind == "prompt" else (whole, None)


def _columns(record: Any) -> list[str]:
    return [str(key) for key in record] if isinstance(record, dict) else []


def _named(record: Any) -> str:
    return f"; the columns are: {', '.join(sorted(_columns(record))) or 'none'}"


def _from_hub(spec: str, kind: Kind, limit: int | None) -> ReferenceSet:
    dataset, split, column, *extra = [*spec.removeprefix("hf:").split(":"), "", ""]
    if not dataset or any(extra):
        raise ReferenceSetError(f"{spec}: write it as hf:dataset[:split[:column]]")
    try:
        library = importlib.import_module("datasets")
    except ImportError as error:
        raise ReferenceSetError(f"{spec}: reading from the hub needs a package more: pip install datasets") from error
    try:
        records = library.load_dataset(dataset, split=split or "train")
    except (OSError, ValueError) as error:
        raise ReferenceSetError(f"{spec}: {error}") from error
    places = ((f"{spec}, row {number}", row) for number, row in enumerate(records))
    return _from_records(islice(places, limit), spec, kind, column)
