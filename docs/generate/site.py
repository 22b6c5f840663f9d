"""Puts the manual together for the site generator: the pages of ``docs/``, and every file elsewhere that they link to.

The pages link to files of the repository by relative paths, as one reads them in the repository. A site has only its
own pages. So whatever Markdown or picture is linked to outside ``docs/`` is copied beside them, under ``repository/``;
a link to any other file becomes its label. A link that leads nowhere is an error.

    python -m docs.generate.site      # writes build/manual, from which `zensical build` makes build/site
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SHOWN = {".md", ".png", ".svg"}

_LINK = re.compile(r"(?P<mark>!?)\[(?P<label>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_CODE = re.compile(r"^ {0,3}```.*?^ {0,3}```[^\n]*$|(?<=\n\n)(?: {4}[^\n]*\n)+", re.MULTILINE | re.DOTALL)


class BrokenLinkError(ValueError):
    """Links that lead nowhere, each with the page that has it."""


def assemble(out: Path, root: Path = ROOT) -> list[Path]:
    """Write the pages and what they link to into ``out``, which is emptied first. Returns the pages written.

    Raises ``BrokenLinkError``: every broken link, by page.
    """
    shutil.rmtree(out, ignore_errors=True)
    waiting = sorted(path for path in (root / "docs").rglob("*") if path.suffix in SHOWN)
    seen = set(waiting)
    pages, broken = [], []
    while waiting:
        source = waiting.pop()
        target = out / placed(source, root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix != ".md":
            shutil.copyfile(source, target)
            continue
        text, linked, lost = rewritten(source, root)
        target.write_text(text)
        pages.append(target)
        broken += [f"{source.relative_to(root)}: {link}" for link in lost]
        waiting += linked - seen
        seen |= linked
    if broken:
        raise BrokenLinkError("links that lead nowhere:\n  " + "\n  ".join(broken))
    return pages


def placed(path: Path, root: Path) -> Path:
    """Where a file of the repository lies in the site, relative to its root."""
    docs = root / "docs"
    return path.relative_to(docs) if path.is_relative_to(docs) else Path("repository") / path.relative_to(root)


def rewritten(source: Path, root: Path) -> tuple[str, set[Path], list[str]]:
    """A page with its links as the site has them, the files that it shows or links to, and its broken links."""
    linked: set[Path] = set()
    broken: list[str] = []
    here = placed(source, root).parent

    def link(match: re.Match[str]) -> str:
        mark, label, target = match["mark"], match["label"], match["target"]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        name, hash_, anchor = target.partition("#")
        file = Path(os.path.normpath(source.parent / name))
        if file.is_dir() and (file / "README.md").is_file():
            file /= "README.md"
        if not file.exists() or not file.is_relative_to(root):
            broken.append(target)
            return match[0]
        if file.suffix not in SHOWN:
            return label
        linked.add(file)
        return f"{mark}[{label}]({os.path.relpath(placed(file, root), here)}{hash_}{anchor})"

    text = source.read_text()
    parts, end = [], 0
    for code in _CODE.finditer(text):  # what is in a code block is no link
        parts += [_LINK.sub(link, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(link, text[end:])]), linked, broken


if __name__ == "__main__":
    assemble(ROOT / "build" / "manual")
