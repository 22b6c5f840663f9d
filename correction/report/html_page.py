"""A report as one HTML page that loads nothing, runs nothing, and shows every text as text."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 22%, Canvas);
  --soft: color-mix(in srgb, CanvasText 6%, Canvas); }
body { font: 16px/1.5 system-ui, sans-serif; color: CanvasText; background: Canvas;
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
caption { text-align: left; padding: 0.5rem 0; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
figure { margin: 1rem 0 2rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: 0.9rem; }
details { border: 1px solid var(--line); border-radius: 4px; padding: 0.5rem 1rem; }
summary { cursor: pointer; font-weight: 600; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 0.5rem 1rem;
  padding: 1rem 0; border-top: 1px solid var(--line); }
.prompt { grid-column: 1 / -1; margin: 0; }
.said { background: var(--soft); border-radius: 4px; padding: 0.5rem 0.8rem; min-width: 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.2rem 0 0; }
.label { font-size: 0.8rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: 0.2rem 1rem; font-size: 0.9rem;
  margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
@media print { details::details-content { content-visibility: visible; } }
"""
DPI = 150
"""Of the pictures: pixels an inch, of which a browser has 96 in CSS."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_NUMBER = re.compile(r"[+−-]?\d.*|–")


@dataclass(frozen=True)
class Table:
    """A table of texts; cells of a column that are all numbers stand to the right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG with the text that stands in for it, and what it shows."""

    png: bytes
    alt: str
    caption: str = ""


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

    Every text is escaped, so that no output of a model becomes markup; control characters show as �. Examples
    stay closed until they are opened.

    Args:
        path: HTML file to write.
        title: Heading of the page.
        tables: In order.
        pictures: In order, below the tables.
        examples: Responses side by side.
        facts: What was measured and how: JSON values, objects within objects.
        notes: Paragraphs below the title.
        about_examples: How the examples were chosen.

    Raises:
        ValueError: A picture is not a PNG.
        OSError: The file cannot be written.
    """
    digest = b64encode(sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_text(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{_text(title)}</h1>",
        *(f"<p>{_text(note)}</p>" for note in notes),
        *(part for picture in pictures for part in _picture(picture)),
        *(part for table in tables for part in _table(table)),
        *_examples(examples, about_examples),
        "<h2>What was measured</h2>",
        _facts(facts),
        "</main>",
        "</body>",
        "</html>",
    ]
    Path(path).write_text("\n".join(parts) + "\n", encoding="utf-8", newline="\n")


def _picture(picture: Picture) -> list[str]:
    if not picture.png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"the picture {picture.alt!r} is not a PNG; give the bytes of one")
    width, height = (round(int.from_bytes(picture.png[start : start + 4]) * 96 / DPI) for start in (16, 20))
    data = b64encode(picture.png).decode()
    return [
        "<figure>",
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{_text(picture.alt)}">',
        f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else "",
        "</figure>",
    ]


def _table(table: Table) -> list[str]:
    right = [all(_NUMBER.fullmatch(row[place]) for row in table.rows) for place in range(len(table.columns))]
    kinds = [' class="number"' if each else "" for each in right]
    heads = zip(table.columns, kinds, strict=True)
    return [
        '<div class="wide">',
        "<table>",
        f"<caption>{_text(table.caption)}</caption>",
        "<thead><tr>" + "".join(f'<th scope="col"{kind}>{_text(cell)}</th>' for cell, kind in heads) + "</tr></thead>",
        "<tbody>",
        *(
            "<tr>" + "".join(f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
            for row in table.rows
        ),
        "</tbody>",
        "</table>",
        "</div>",
    ]


def _examples(examples: Sequence[Example], about: str) -> list[str]:
    if not examples:
        return []
    parts = ["<h2>Responses before and after</h2>"]
    if about:
        parts.append(f"<p>{_text(about)}</p>")
    parts += [
        "<details>",
        f"<summary>Show {len(examples)} pairs. Warning: responses may be insulting, hateful or obscene.</summary>",
    ]
    for example in examples:
        parts += [
            '<div class="pair">',
            f'<p class="prompt text" dir="auto"><strong>Prompt:</strong> {_text(example.prompt)}</p>',
            *_response_html("before", example.before, example.score_before),
            *_response_html("after", example.after, example.score_after),
            "</div>",
        ]
    return [*parts, "</details>"]


def _response_html(when: str, said: str, score: float | None) -> list[str]:
    scored = "" if score is None else f", score {score:.3f}"
    shown = _text(said) if said.strip() else "<em>(empty)</em>"
    return [
        '<div class="said">',
        f'<span class="label">{when}{scored}</span>',
        f'<p class="text" dir="auto">{shown}</p>',
        "</div>",
    ]


def _facts(facts: Mapping[str, Any]) -> str:
    """A list of definitions, one within another where a value is an object."""
    lines = []
    for name, value in facts.items():
        shown = _facts(value) if isinstance(value, Mapping) else _text(_value(value))
        lines.append(f"<dt>{_text(str(name).replace('_', ' '))}</dt><dd>{shown}</dd>")
    return "<dl>\n" + "\n".join(lines) + "\n</dl>"


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list | tuple):
        return ", ".join(_value(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(text: str) -> str:
    return escape(_CONTROL.sub("�", text), quote=True)
