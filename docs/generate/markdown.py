"""Text for the pages: tables, cells, docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Example|Examples):$")

_NAMED = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*):\s")
"""A value and what it is, on a line of its own."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already, see ``cell``."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def cell(text: str | None) -> str:
    """Plain text for a cell of a table."""
    return " ".join((text or "").replace("``", "`").split()).replace("|", "\\|").replace("<", "&lt;")


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, for a cell."""
    sentence = inspect.cleandoc(text or "").partition("\n\n")[0].replace("\n", " ")
    return cell(sentence.partition(". ")[0].rstrip("."))


def prose(docstring: str | None) -> str:
    """A docstring as Markdown: its sections (Args, Returns, Raises, …) become lists."""
    lines: list[str] = []
    inside = False
    for line in inspect.cleandoc(docstring or "").replace("``", "`").splitlines():
        if match := _SECTION.match(line):
            lines += ["", f"**{match[1]}**", ""]
            inside = True
        elif inside and re.match(r"^ {4}\S", line):
            lines.append("- " + re.sub(r"^([\w, .*]+?):", _as_code, line.strip()))
        elif inside and re.match(r"^ {5,}\S", line):
            lines[-1] += " " + line.strip()
        elif match := _NAMED.match(line):
            lines += [] if lines and lines[-1].startswith("- ") else [""]
            lines.append(f"- {_as_code(match)} {line[match.end() :].strip()}")
        elif line.startswith(" ") and lines and lines[-1].startswith("- "):
            lines[-1] += " " + line.strip()
        else:
            inside = inside and not line.strip()
            lines += [""] if line.strip() and lines and lines[-1].startswith("- ") else []
            lines.append(line)
    return "\n".join(lines)


def _as_code(names: re.Match[str]) -> str:
    return ", ".join(f"`{name.strip()}`" for name in names[1].split(",")) + ":"
