"""General text for the real model, from what every machine has: the prose of Python's own documentation.

Read where it lies, so that no text of others is kept here: the language reference that `help()` shows, and the
docstrings of the standard library's modules, classes and functions. A passage is a run of whole paragraphs of prose
from one source, of about 150 to 250 tokens; code, tables and lists are left out. Which passages there are depends on
the version of Python.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

ENOUGH = 750
"""Characters after which a passage is complete; none has more than twice as many."""
_LEFT_OUT = {"test", "tests", "site-packages", "idlelib", "lib2to3", "ensurepip", "pydoc_data"}
_NO_PROSE = re.compile(r"::=|>>>|\n[=\-~\"^*]{3,}|^[*\-+|=>@:\d(]|\n ")
_WORD = re.compile(r"[A-Za-z]+[,.;:)]?")


def passages(split: str, count: int) -> list[str]:
    """Return the first `count` passages of `split` ("train" or "heldout"), the same each time on one Python.

    Every third source is held out, as a whole. Raises `ValueError` where this Python has too few.
    """
    candidates: list[str] = []
    for number, source in enumerate(_sources()):
        if (number % 3 == 0) == (split == "heldout"):
            candidates += _joined(source)
    spread = candidates[:: max(1, len(candidates) // count)][:count]  # from all over the library
    if len(spread) < count:
        raise ValueError(f"the documentation of this Python gives {len(spread)} passages for {split}, not {count}")
    return spread


def _sources() -> Iterator[list[str]]:
    """The paragraphs of prose of each topic and module, no paragraph twice."""
    from pydoc_data.topics import topics

    seen: set[str] = set()
    for name in sorted(topics):
        yield list(_prose([topics[name]], seen))
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if not _LEFT_OUT.intersection(path.relative_to(library).parts):
            yield list(_prose(_docstrings(path), seen))


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a file that is there to be wrong
        return
    nodes: list[ast.AST] = [tree]
    while nodes:  # not ast.walk, which looks into every expression
        node = nodes.pop(0)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
        if isinstance(node, ast.Module | ast.ClassDef):
            nodes += node.body


def _prose(texts: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Paragraphs of whole sentences, each on one line."""
    for text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            line = " ".join(paragraph.split())
            words = line.split()
            plain = sum(bool(_WORD.fullmatch(word)) for word in words)
            if len(words) < 12 or plain < 0.8 * len(words) or not line.endswith((".", ":")):
                continue
            if not _NO_PROSE.search(paragraph) and line not in seen:
                seen.add(line)
                yield line


def _joined(paragraphs: list[str]) -> Iterator[str]:
    passage = ""
    for paragraph in paragraphs:
        passage = f"{passage}\n\n{paragraph}" if passage else paragraph
        if len(passage) >= ENOUGH:
            if len(passage) <= 2 * ENOUGH:
                yield passage
            passage = ""
