"""Pairs from a file: a .csv with the columns clean, corrupted, correct and wrong."""

import csv
from pathlib import Path

from correction.circuits.prompt_pairs import Pair
from correction.errors import ReferenceSetError

COLUMNS = ("clean", "corrupted", "correct", "wrong")


def read(path: str | Path) -> list[Pair]:
    """The pairs of a UTF-8 file; columns of other names are passed over, spaces are kept.

    Raises:
        ReferenceSetError: It cannot be read, or a column is missing or empty.
    """
    path = Path(path)
    pairs = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            for row in table:
                values = [row.get(column) for column in COLUMNS]
                if not all(values):
                    missing = ", ".join(name for name, value in zip(COLUMNS, values, strict=True) if not value)
                    raise ReferenceSetError(f"{path.name}, line {table.line_num}: nothing under {missing}")
                pairs.append(Pair(*(str(value) for value in values)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReferenceSetError(f"{path}: cannot be read as CSV: {error}") from error
    return pairs
