"""`excise demo`: the whole story on the built-in model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from commands import terminal
from commands.cli_options import Json
from commands.terminal import progress_bars


def demo(
    out: Annotated[Path, typer.Option(help="Folder for masks, picture and the demo's store.")] = Path("excise-demo"),
    as_json: Json = False,
) -> None:
    """The whole story on the built-in model: correct it, serve it, compare the variants. A few minutes on a CPU."""
    from demo import story

    with progress_bars() as progress:
        result = story.tell(out, terminal.err if as_json else terminal.out, progress)
    if as_json:
        print(json.dumps(result))  # noqa: T201
