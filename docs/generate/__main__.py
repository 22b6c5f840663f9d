"""Writes the reference pages: ``python -m docs.generate``; with ``--check`` it only says which are out of date."""

from __future__ import annotations

import sys

from docs.generate import PAGES, pages, stale


def main(arguments: list[str]) -> int:
    """Returns the exit code: 1 where a page is out of date and nothing was to be written."""
    if arguments == ["--check"]:
        for name in (outdated := stale()):
            print(f"docs/reference/{name} is out of date; run: make reference", file=sys.stderr)  # noqa: T201
        return 1 if outdated else 0
    for name, text in pages().items():
        (PAGES / name).write_text(text)
    return 0


sys.exit(main(sys.argv[1:]))
