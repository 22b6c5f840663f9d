"""`excise circuit`: the components that suffice for a task."""

from pathlib import Path
from typing import Annotated

import typer

from commands.cli_options import (
    Dtype,
    Json,
    Model,
    Tokens,
    check_fraction,
    check_writable_file,
    check_writable_folder,
    parse_integers,
    several,
)
from commands.terminal import describe_mask, out, print_json, progress_bars
from correction.choices import CriterionName, Granularity, Sign

KINDS = ("zero", "mean", "counterfactual")


def circuit(
    model: Model,
    task: Annotated[
        str,
        typer.Option(
            help="ioi, ioi-names, greater-than, induction, or a .csv with the columns clean, corrupted, correct, wrong."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Mask file to write: it cuts all but the circuit.")],
    granularity: Annotated[Granularity, typer.Option(help="What the circuit is made of.")] = "head",
    modules: Annotated[str | None, typer.Option(help="For weights: matrices, by last name, comma-separated.")] = None,
    criterion: Annotated[CriterionName, typer.Option(help="What orders the components.")] = "lrp",
    sign: Annotated[
        Sign | None, typer.Option(help="Of relevance: signed keeps what speaks for the answer, absolute what matters.")
    ] = None,
    rival: Annotated[
        list[str] | None,
        several(CriterionName, "Criterion whose curve is shown too; random always is. Repeatable."),
    ] = None,
    ablation: Annotated[
        str, typer.Option(help="What stands in for the rest: zero (as the mask does it), mean or counterfactual.")
    ] = "zero",
    beside: Annotated[
        str | None, typer.Option(help="Ablations whose curves are shown too, comma-separated. Default: zero,mean.")
    ] = None,
    faithfulness: Annotated[
        float | None, typer.Option(help="Share of what the model does that the circuit must do alone; default 0.9.")
    ] = None,
    kept: Annotated[int | None, typer.Option(help="Components to keep, instead.", min=1)] = None,
    examples: Annotated[int, typer.Option(help="Pairs: a third each to attribute, choose and report on.", min=6)] = 300,
    seeds: Annotated[str, typer.Option(help="Each attributes another part; the first makes the mask.")] = "0,1,2",
    split_seed: Annotated[int, typer.Option(help="Of the pairs and of their three parts.", min=0)] = 0,
    tried: Annotated[
        int, typer.Option(help="Components taken out of the circuit one at a time, for minimality.", min=0)
    ] = 20,
    name: Annotated[str | None, typer.Option(help="Name of the mask; default: the file's.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for pictures, curves.csv and circuit.html.")] = None,
    dtype: Dtype = "auto",
    tokens: Tokens = 4096,
    as_json: Json = False,
) -> None:
    """Find the components that suffice for a task, and write the mask that cuts all others."""
    import masks
    from correction import models
    from correction.attribution.criteria import Settings
    from correction.circuits import CircuitSearch, find_circuit, task_rows
    from correction.report.circuit_report import summary, write

    check_writable_file(output, "-o")
    if report is not None:
        check_writable_folder(report if report.exists() else report.parent, "--report")
    if faithfulness is not None and kept is not None:
        raise typer.BadParameter("say --faithfulness or --kept, not both", param_hint="--kept")
    if faithfulness is not None:
        check_fraction(faithfulness, "--faithfulness")
    if modules and granularity != "weight":
        raise typer.BadParameter("--modules is for weights: give --granularity weight", param_hint="--modules")
    chosen = _ablations(ablation, beside, granularity)
    search = CircuitSearch(
        criterion,
        Settings(
            granularity,
            sign=sign or "signed",
            modules=tuple(modules.split(",")) if modules else None,
        ),
        chosen[0],  # type: ignore[arg-type]
        chosen[1:],  # type: ignore[arg-type]
        goal=0.9 if faithfulness is None else faithfulness,
        kept=kept,
        rivals=tuple(each for each in rival or () if each not in (criterion, "random")),
        seeds=parse_integers(seeds, "--seeds"),
        split_seed=split_seed,
        tried=tried,
        tokens=tokens,
    )
    loaded = models.load(model, dtype=dtype)
    asked = task_rows(loaded, task, examples, split_seed, aligned="counterfactual" in chosen)
    with progress_bars() as progress:
        result = find_circuit(loaded, asked, search, name=name or output.stem, progress=progress)
    masks.save(result.mask, output)
    if report is not None:
        write(result, report)
    if as_json:
        print_json({"file": str(output), **describe_mask(result.mask)})
        return
    made = result.mask.meta.made["circuit"]
    out.print(
        f"{output}: {made['kept']:,} of {made['universe']['size']:,} {granularity}s kept",
        style="bold",
        soft_wrap=True,
    )
    for measure, value in summary(result).rows:
        out.print(f"{measure}: {value}", soft_wrap=True)
    if report is not None:
        out.print(f"{report}/circuit.html: {len(result.curves)} curves")


def _ablations(ablation: str, beside: str | None, granularity: Granularity) -> tuple[str, ...]:
    """All that are asked for, the one that counts first."""
    others = beside.split(",") if beside else ["zero", "mean"] if granularity != "weight" else []
    chosen = tuple(dict.fromkeys((ablation, *others)))
    if wrong := [each for each in chosen if each not in KINDS]:
        raise typer.BadParameter(f"{wrong[0]!r} is no ablation; there is: {', '.join(KINDS)}", param_hint="--ablation")
    return chosen
