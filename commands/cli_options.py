"""Options that several commands share."""

from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, get_args

import typer

Model = Annotated[str, typer.Option(help="Model folder or hub id.")]
MaskFile = Annotated[Path, typer.Argument(help="Mask file.", exists=True, dir_okay=False)]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Raw = Annotated[bool, typer.Option("--raw", help="Prompts as they are, without the model's chat template.")]
Dtype = Annotated[str, typer.Option(help="Type to compute in: auto (the checkpoint's), float32, bfloat16.")]
Scorer = Annotated[
    str,
    typer.Option(help="Scorer of responses: profanity, hf:MODEL, moderations:URL, or a name that a package has."),
]
AllowOther = Annotated[
    bool, typer.Option("--allow-other-base", help="Take masks made for another fingerprint, where the geometry fits.")
]
SETS = ".jsonl, .csv[:column], .txt or hf:dataset"
Behaviour = Annotated[str, typer.Option(help=f"Prompts that bring the behaviour out: {SETS}.")]
General = Annotated[str, typer.Option(help=f"Text that must stay as it is: {SETS}.")]
Shows = Annotated[
    str, typer.Option(help="What a response must show: toxicity, repetition, scorer:SPEC or regex:PATTERN.")
]
Threshold = Annotated[
    float | None, typer.Option(help="Score from which on it does (default 0.9), or highest uniqueness ratio (0.5).")
]
NewTokens = Annotated[int, typer.Option(help="Longest response, tokens.", min=1)]
Samples = Annotated[int, typer.Option(help="Responses to each prompt.", min=1)]
Temperature = Annotated[float, typer.Option(help="Of the responses; 0 is greedy.", min=0)]
Tokens = Annotated[int, typer.Option(help="Tokens of a batch: memory and speed, not the result.", min=1)]


def several(choices: Any, help: str) -> Any:
    """An option that may be repeated, each time one of a Literal's choices: typer takes no list of a Literal.

    Annotate it as list[str].
    """
    names = get_args(choices)

    def parse(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is not one of {', '.join(map(repr, names))}.")
        return value

    return typer.Option(help=help, parser=parse, metavar=f"<list[{'|'.join(names)}]>")


def check_writable_file(path: Path, option: str) -> None:
    """Refuse a file that cannot be written, before the work."""
    if path.is_dir():
        raise typer.BadParameter(f"{path} cannot be written: it is a folder", param_hint=option)
    check_writable_folder(path.parent, option, "its folder")


def check_writable_folder(folder: Path, option: str, what: str = "the folder") -> None:
    """Refuse a folder that nothing can be written into, before the work."""
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise typer.BadParameter(f"cannot be written: {what}, {folder}: {error.strerror}", param_hint=option) from error


def check_fraction(value: float, option: str) -> None:
    """Refuse what is no part of a set, before the work."""
    if not 0 < value < 1:
        raise typer.BadParameter(f"{value} is no fraction between 0 and 1", param_hint=option)


def parse_integers(spec: str, option: str) -> tuple[int, ...]:
    """Whole numbers with commas between them. Raises `typer.BadParameter`."""
    parts = [part.strip() for part in spec.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{spec!r} is no list of numbers, as 10,20,50", param_hint=option)
    return tuple(int(part) for part in parts)
