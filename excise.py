"""The command line: thin, imports lazily (``excise --help`` must not wait for torch)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import filesize

from correction import commands, terminal
from correction.commands.options import AllowOther, Json, Model
from correction.terminal import count_of, described, measured, print_json, progress_bars
from service.report.command import report

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


MaskFile = Annotated[Path, typer.Argument(help="Mask file.", exists=True, dir_okay=False)]


@app.callback()
def excise() -> None:
    """Find the few parts of a language model that carry an unwanted behaviour, cut them, serve the corrected model."""


@app.command()
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


for command in (
    commands.references,
    commands.correct,
    commands.sweep,
    commands.compress,
    commands.evaluate,
    commands.circuit,
    commands.improve,
    report,
):
    app.command()(command)


@app.command()
def inspect(file: MaskFile, as_json: Json = False) -> None:
    """What a mask cuts, by layer, how it was made, and what it measured."""
    from rich.table import Table

    import masks

    mask = masks.load(file)
    if as_json:
        print_json(described(mask))
        return
    terminal.out.print(f"{mask.meta.name}  {count_of(mask)} cut, made {mask.meta.created_at}", style="bold")
    for warning in mask.warnings:
        terminal.out.print(f"warning: {warning}", style="bold red", soft_wrap=True)
    base = mask.meta.base
    terminal.out.print(f"digest {mask.digest}", soft_wrap=True)
    terminal.out.print(f"base {base.id} ({base.architecture}), fingerprint {base.fingerprint}", soft_wrap=True)
    gated = ("cut", "to 1/4", "to 1/2") if mask.dampened else ("cut",)
    table = Table("where", *gated, "of", title="cuts")
    geometry = mask.meta.base.geometry
    for kind, cut, size in (("neurons", mask.neurons, geometry.neurons), ("heads", mask.heads, geometry.heads)):
        for layer in sorted(cut):
            gates = mask.gate_values(kind, layer)
            counts = [str(int((gates == gate).sum())) for gate in (0, 0.25, 0.5)[: len(gated)]]
            table.add_row(f"layer {layer}, {kind}", *counts, str(size))
    for parameter in sorted(mask.weights):
        rows, columns = mask.meta.shapes[parameter]
        none = ["0"] * (len(gated) - 1)
        table.add_row(parameter, str(len(mask.weight_indices(parameter))), *none, str(rows * columns))
    terminal.out.print(table)
    terminal.out.print_json(data={"made": described(mask)["made"]})
    terminal.out.print(measured(mask))


@app.command()
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


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model: Model,
    mask: Annotated[
        list[str] | None,
        typer.Option(help="Load with this mask: a file, NAME or NAME@VERSION; several: with their union."),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Folder for mask files and the default database, or an object store's URL.")
    ] = None,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database.")] = None,
    api_key: Annotated[list[str] | None, typer.Option(help="Key for inference and reading; may be repeated.")] = None,
    admin_key: Annotated[list[str] | None, typer.Option(help="Key for changing calls; may be repeated.")] = None,
    max_resident_masks: Annotated[int | None, typer.Option(help="Masks in the engine at one time.")] = None,
    max_weight_rank: Annotated[
        int | None, typer.Option(help="Largest rank of a mask of single weights served per request; 0: none are.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File of such keys, one a line; may change.")] = None,
    admin_key_file: Annotated[Path | None, typer.Option(help="File of such keys, one a line; may change.")] = None,
    scorer: Annotated[str | None, typer.Option(help="Toxicity scorer for responses, or 'none'.")] = None,
    coherence_rate: Annotated[
        float | None,
        typer.Option(help="Share of an experiment's units whose coherence the base judges, of each variant; 0: none."),
    ] = None,
    scoring_rate: Annotated[float | None, typer.Option(help="Share of the users whose responses are scored.")] = None,
    keep_flagged: Annotated[
        int | None, typer.Option(help="Toxic or repetitive responses kept with their prompts, redacted; 0: none.")
    ] = None,
    unit_header: Annotated[
        str | None, typer.Option(help="Request header that names the user, where the body does not.")
    ] = None,
    max_mirrored: Annotated[int | None, typer.Option(help="Mirrored requests answered at one time; 0: none.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL told when a guardrail stops an experiment.")] = None,
    log_format: Annotated[str | None, typer.Option(help="Lines of the log: text, or json.")] = None,
    allow_other_base: AllowOther = False,
) -> None:
    """Serve a model through vLLM; masks over HTTP, chosen per request, or baked in with --mask.

    Any option not listed here goes to vLLM (--port, --host, --dtype, --max-model-len, …).
    """
    from service import bootstrap, settings

    parsed = settings.parse(
        store=store,
        database=database,
        api_keys=api_key,
        admin_keys=admin_key,
        api_key_file=api_key_file,
        admin_key_file=admin_key_file,
        max_resident_masks=max_resident_masks,
        max_weight_rank=max_weight_rank,
        scorer=scorer,
        scoring_rate=scoring_rate,
        coherence_rate=coherence_rate,
        keep_flagged=keep_flagged,
        unit_header=unit_header,
        max_mirrored=max_mirrored,
        webhook=webhook,
        log_format=log_format,
        allow_other_base=allow_other_base or None,
    )
    bootstrap.serve(model, parsed, mask or (), context.args)


_OURS = ("masks", "behaviours", "edits", "correction", "service", "demo")


def main() -> None:
    """Run the command line. An error of ours is one line that says what to mend; any other is a traceback."""
    try:
        app(prog_name="excise")
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _OURS:
            raise
        terminal.err.print("excise:", style="bold red", end=" ")
        terminal.err.print(str(error), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
