r"""The rows of a file that a reference set is read from. Lines end with \n, \r\n or \r, and with nothing else."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from correction.data.conversations import is_turns
from correction.errors import ReferenceSetError

Row = tuple[str, Any]
"""Where it stands, for messages, and what it is: a dict by column, or else what JSON has there."""

_END = re.compile(r"\r\n|\n|\r")  # str.splitlines also breaks at U+2028, U+0085, \f and \v, which text may hold
_SPACE = re.compile(r"[ \t\n]*")


def lines(path: Path) -> list[str]:
    """The lines of a text file. Raises `ReferenceSetError`."""
    return _END.split(decoded(path))


def json_rows(path: Path) -> Iterator[Row]:
    """The JSON values in a file, one after the other, each on one line or on several; of a lone array, its elements.

    Raises:
        ReferenceSetError: At the first row that is not JSON.
    """
    text = _END.sub("\n", decoded(path))
    decoder = json.JSONDecoder(parse_int=float)  # no number is ever used, and int() refuses those of 4,300 digits
    at, line = 0, 1
    while True:
        start = _after_space(text, at)
        if start == len(text):
            return
        line += text.count("\n", at, start)
        try:
            value, end = decoder.raw_decode(text, start)
        except RecursionError:
            raise ReferenceSetError(f"{path.name}, line {line}: nested too deep to be a row") from None
        except ValueError as error:
            raise ReferenceSetError(f"{path.name}, line {line}: not JSON: {error}") from error
        if at == 0 and isinstance(value, list) and not is_turns(value) and _after_space(text, end) == len(text):
            yield from ((f"{path.name}, row {number}", row) for number, row in enumerate(value, 1))
            return
        yield f"{path.name}, line {line}", value
        line += text.count("\n", start, end)
        at = end


def csv_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV file by column, its first row the columns' names; cells of any length and with line breaks.

    Raises:
        ReferenceSetError: At the first row that is not CSV.
    """
    rows = csv.DictReader(io.StringIO(decoded(path), newline=""), strict=True)
    before = csv.field_size_limit(sys.maxsize)  # of the process; 131,072 characters if nobody asks
    try:
        for row in rows:
            yield f"{path.name}, line {rows.line_num}", row
    except csv.Error as error:
        raise ReferenceSetError(f"{path.name}, line {rows.line_num}: not CSV: {error}") from error
    finally:
        csv.field_size_limit(before)


def decoded(path: Path) -> str:
    """A file as text: UTF-8, without a byte order mark. Raises `ReferenceSetError`."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReferenceSetError(
            f"{path.name}: not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from error
    except OSError as error:
        raise ReferenceSetError(f"{path}: cannot be read: {error.strerror}") from error


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
