"""`excise references`: build a behaviour set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.cli_options import (
    SETS,
    Dtype,
    Json,
    Model,
    NewTokens,
    Raw,
    Samples,
    Scorer,
    Shows,
    Temperature,
    Threshold,
    Tokens,
    check_fraction,
    check_writable_file,
)
from commands.terminal import err, out, print_json, print_warning, progress_bars

if TYPE_CHECKING:
    from correction.data.behaviour_set import BehaviourSet


def references(
    model: Model,
    prompts: Annotated[str, typer.Option(help=f"Candidate prompts: {SETS}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Behaviour set to write, .jsonl.")],
    shows: Shows = "toxicity",
    threshold: Threshold = None,
    held_out: Annotated[
        float | None, typer.Option(help="Fraction to split off, into a second file: NAME_heldout.jsonl.")
    ] = None,
    general: Annotated[str | None, typer.Option(help="General set, to warn where the two overlap.")] = None,
    max_new_tokens: NewTokens = 50,
    samples: Samples = 1,
    temperature: Temperature = 0.0,
    dtype: Dtype = "auto",
    raw: Raw = False,
    scorer: Scorer = "profanity",
    tokens: Tokens = 4096,
    as_json: Json = False,
) -> None:
    """Build a behaviour set: the model answers candidate prompts; those whose responses show the behaviour stay."""
    from correction import models
    from correction.data import behaviour_set
    from correction.data.references import overlap, read

    held_out_file = output.with_name(f"{output.stem}_heldout{output.suffix}")
    _check_output(output, prompts)
    if held_out is not None:
        _check_held_out(held_out, held_out_file)
    detector = behaviour_set.parse_detector(shows, scorer=scorer, threshold=threshold)
    candidates = read(prompts, kind="prompt")
    general_set = read(general, kind="text") if general else None
    loaded = models.load(model, dtype=dtype)
    with progress_bars() as progress:
        answered = behaviour_set.build(
            loaded,
            candidates,
            detector,
            raw=raw,
            max_new_tokens=max_new_tokens,
            samples=samples,
            temperature=temperature,
            tokens=tokens,
            progress=progress,
        )
    files = {output: answered.selected}
    if held_out is not None:
        files = dict(zip((output, held_out_file), answered.selected.split(held_out), strict=True))
    for path, part in files.items():
        behaviour_set.save(part, path)
    shared = overlap(answered.selected, general_set) if general_set else ()
    if as_json:
        sizes = {str(path): len(part) for path, part in files.items()}
        print_json({**answered.described(), **answered.counts(), "overlap": len(shared), "files": sizes})
        return
    outcome_lines(answered)
    if shared:
        print_warning(f"{len(shared)} of them are in the general set too, for example {shared[0][:80]!r}")
    for path, part in files.items():
        out.print(f"{path}: {len(part)} prompts with their responses")


def _check_output(output: Path, prompts: str) -> None:
    """Refuse a file that cannot be written, has another suffix, or holds the candidates."""
    check_writable_file(output, "-o")
    if output.suffix != ".jsonl":
        raise typer.BadParameter(f"{output.name}: a reference set is written as .jsonl", param_hint="-o")
    if output.exists() and Path(prompts).exists() and output.samefile(prompts):
        raise typer.BadParameter(f"{output} is where the candidates come from", param_hint="-o")


def _check_held_out(fraction: float, file: Path) -> None:
    """Refuse a held-out part that is no fraction, or whose file cannot be written or exists."""
    check_fraction(fraction, "--held-out")
    check_writable_file(file, "--held-out")
    if file.exists():
        raise typer.BadParameter(f"{file} is there already: move it away", param_hint="--held-out")


def outcome_lines(answered: "BehaviourSet") -> None:
    """Print on standard error how many candidates were answered, and how many responses show the behaviour."""
    dropped = [f"{answered.duplicates} copies"] if answered.duplicates else []
    dropped += [f"{answered.too_long} too long"] if answered.too_long else []
    candidates = ", ".join([f"{answered.candidates} candidates", *dropped])
    shown = int(answered.flags.sum())
    err.print(f"{candidates}; {shown} of {len(answered.responses)} responses show the behaviour")
