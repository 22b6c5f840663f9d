"""`excise export`: a mask for servers without Excise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import filesize

from commands import terminal
from commands.cli_options import AllowOther, Json, MaskFile
from commands.terminal import print_json


def export(
    file: MaskFile,
    model: Annotated[Path, typer.Option(help="Model folder.", exists=True, file_okay=False)],
    form: Annotated[
        Literal["peft", "ia3", "checkpoint"],
        typer.Option(
            "--format",
            help="A LoRA adapter beside the model, an IA³ adapter (neurons and heads only; exact), or the whole model "
            "with the mask in it.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, new or empty.")],
    allow_other_base: AllowOther = False,
    as_json: Json = False,
) -> None:
    """Write a mask in a form that others know: a PEFT adapter (LoRA or IA³), or a corrected checkpoint."""
    import masks
    from edits.export import export as write

    written = write(masks.load(file), model, output, form, allow_other_base=allow_other_base)
    if as_json:
        print_json(written)
        return
    size = filesize.decimal(written["bytes"])
    if form == "peft":
        modules = f"{len(written['ranks'])} modules, ranks up to {written['rank']}"
        terminal.out.print(f"{output}: adapter for {modules}, {size}", soft_wrap=True)
    elif form == "ia3":
        gated = f"{sum(written['inputs'].values()):,} inputs of {len(written['inputs'])} modules"
        terminal.out.print(f"{output}: adapter for {gated}, {size}", soft_wrap=True)
    else:
        terminal.out.print(f"{output}: {written['model']} with mask {written['mask']} in it, {size}", soft_wrap=True)
