"""`excise references`: build a behaviour set."""

from pathlib import Path
from typing import Annotated, Any

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
    check_writable_file(output, "-o")
    if output.suffix != ".jsonl":
        raise typer.BadParameter(f"{output.name}: a reference set is written as .jsonl", param_hint="-o")
    if held_out is not None:
        check_fraction(held_out, "--held-out")
        check_writable_file(held_out_file, "--held-out")
        if held_out_file.exists():
            raise typer.BadParameter(f"{held_out_file} is there already: move it away", param_hint="--held-out")
    if output.exists() and Path(prompts).exists() and output.samefile(prompts):
        raise typer.BadParameter(f"{output} is where the candidates come from", param_hint="-o")
    detector = behaviour_set.parse_detector(shows, scorer=scorer, threshold=threshold)
    candidates = read(prompts, kind="prompt")
    against = read(general, kind="text") if general else None
    loaded = models.load(model, dtype=dtype)
    with progress_bars() as progress:
        found = behaviour_set.build(
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
    files = {output: found.selected}
    if held_out is not None:
        files = dict(zip((output, held_out_file), found.selected.split(held_out), strict=True))
    for path, kept in files.items():
        behaviour_set.save(kept, path)
    shared = overlap(found.selected, against) if against else ()
    if as_json:
        sizes = {str(path): len(kept) for path, kept in files.items()}
        print_json({**found.described(), **found.counts(), "overlap": len(shared), "files": sizes})
        return
    outcome_lines(found)
    if shared:
        print_warning(f"{len(shared)} of them are in the general set too, for example {shared[0][:80]!r}")
    for path, kept in files.items():
        out.print(f"{path}: {len(kept)} prompts with their responses")


def outcome_lines(found: Any) -> None:
    """What became of the candidates."""
    lost = "".join(f", {n} {why}" for n, why in ((found.duplicates, "copies"), (found.too_long, "too long")) if n)
    shown = int(found.flags.sum())
    err.print(f"{found.candidates} candidates{lost}; {shown} of {len(found.responses)} responses show the behaviour")
