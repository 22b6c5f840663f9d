"""The reference pages, made from the code: command line, settings, HTTP, metrics, Python API.

``make reference`` writes them to ``docs/reference``. They are checked in, so that they can be read without building
anything, and a test fails where they are out of date.
"""

from __future__ import annotations

from pathlib import Path

PAGES = Path(__file__).resolve().parents[1] / "reference"
MADE = "<!-- Made from the code. Change the code, then run: make reference -->\n\n"


def pages() -> dict[str, str]:
    """File name under ``docs/reference`` → its text."""
    from docs.generate import command_line, http, metrics, python, settings

    made = {
        "cli.md": command_line.page,
        "settings.md": settings.page,
        "http.md": http.page,
        "metrics.md": metrics.page,
        "python.md": python.page,
    }
    return {name: MADE + "\n".join(page()).rstrip() + "\n" for name, page in made.items()}


def stale() -> list[str]:
    """The pages that are not what the code says."""
    return [
        name for name, text in pages().items() if not (PAGES / name).is_file() or (PAGES / name).read_text() != text
    ]
