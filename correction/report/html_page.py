"""A report as one HTML page that loads nothing, runs nothing, and shows every text as text."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

DPI = 150
"""Of the pictures: pixels an inch, of which a browser has 96 in CSS."""
_PNG = b"\x89PNG\r\n\x1a\n"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_NUMBER = re.compile(r"[+−-]?\d.*|–")


@dataclass(frozen=True)
class Table:
    """A table of texts; cells of a column that are all numbers stand to the right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether all of its cells are numbers."""
        return [all(_NUMBER.fullmatch(row[place]) for row in self.rows) for place in range(len(self.columns))]


@dataclass(frozen=True)
class Picture:
    """A PNG with the text that stands in for it, and what it shows.

    Raises:
        ValueError: the bytes are not a PNG.
    """

    png: bytes
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG):
            raise ValueError(f"the picture {self.alt!r} is not a PNG; give the bytes of one")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, from the PNG's header (IHDR)."""
        width, height = (int.from_bytes(self.png[start : start + 4]) for start in (16, 20))
        return round(width * 96 / DPI), round(height * 96 / DPI)

    @property
    def base64(self) -> str:
        """The PNG for a `data:` address."""
        return b64encode(self.png).decode()


@dataclass(frozen=True)
class Example:
    """A prompt with one response before and one after; scores in [0, 1], None where there are none."""

    prompt: str
    before: str
    after: str
    score_before: float | None = None
    score_after: float | None = None


def page(
    path: str | Path,
    title: str,
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    examples: Sequence[Example],
    facts: Mapping[str, Any],
    *,
    notes: Sequence[str] = (),
    about_examples: str = "",
) -> None:
    """Write a report: one file without scripts, fonts or pictures from elsewhere, and forbidden to load any.

    Every text is escaped, so that nothing that a model says becomes markup; control characters show as �. Examples
    stay closed until they are opened.

    Args:
        path: of the HTML file.
        title: of the page, and its heading.
        tables: in their order, after the pictures.
        pictures: in their order.
        examples: responses before and after.
        facts: what was measured and how: JSON values, objects within objects.
        notes: paragraphs below the title.
        about_examples: a paragraph on how the examples were chosen.

    Raises:
        OSError: the file cannot be written.
    """
    style = _templates().get_template("style.css").render()
    text = (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            tables=tables,
            pictures=pictures,
            examples=examples,
            facts=facts,
            notes=notes,
            about_examples=about_examples,
            style_digest=b64encode(sha256(style.encode()).digest()).decode(),
        )
    )
    Path(path).write_text(text, encoding="utf-8", newline="\n")


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("correction.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    templates.filters["fact"] = _fact
    return templates


def _visible(value: Any) -> Any:
    """Every value before it is escaped: control characters, which some readers hide, become �."""
    return value if hasattr(value, "__html__") else _CONTROL.sub("�", str(value))


def _fact(value: Any) -> str:
    """A JSON value in words."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list | tuple):
        return ", ".join(_fact(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
