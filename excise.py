"""The command line: thin, imports lazily (``excise --help`` must not wait for torch)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from correction.progress import Progress

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
_out, _err = Console(highlight=False), Console(stderr=True)


class Granularity(StrEnum):
    """What is cut."""

    neuron = "neuron"
    weight = "weight"


class Criterion(StrEnum):
    """How relevance is measured."""

    lrp = "lrp"
    random = "random"


class Scope(StrEnum):
    """Which components compete for the budget."""

    everywhere = "global"


class Seed(StrEnum):
    """The output whose relevance is propagated."""

    next = "next"
    last = "last"
    response = "response"
    all = "all"


class Sign(StrEnum):
    """Whether relevance keeps its sign."""

    signed = "signed"
    absolute = "absolute"


Model = Annotated[str, typer.Option(help="Model folder or hub id.")]
MaskFile = Annotated[Path, typer.Argument(help="Mask file.", exists=True, dir_okay=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Raw = Annotated[bool, typer.Option("--raw", help="Prompts as they are, without the model's chat template.")]
Dtype = Annotated[str, typer.Option(help="Type to compute in: auto (the checkpoint's), float32, bfloat16.")]
Scorer = Annotated[str, typer.Option(help="Toxicity scorer.")]
AllowOther = Annotated[
    bool, typer.Option("--allow-other-base", help="Take masks made for another fingerprint, where the geometry fits.")
]


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

    with _progress() as progress:
        result = story.tell(out, _err if as_json else _out, progress)
    if as_json:
        print(json.dumps(result))  # noqa: T201


@app.command()
def correct(
    model: Model,
    behaviour: Annotated[str, typer.Option(help="Prompts that bring the behaviour out: .jsonl, .txt or hf:dataset.")],
    general: Annotated[str, typer.Option(help="Text that must stay as it is: .jsonl, .txt or hf:dataset.")],
    name: Annotated[str, typer.Option(help="Name of the mask.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Mask file to write.")],
    criterion: Annotated[Criterion, typer.Option(help="Relevance by this criterion.")] = Criterion.lrp,
    granularity: Annotated[Granularity, typer.Option(help="What to cut.")] = Granularity.neuron,
    count: Annotated[int | None, typer.Option(help="How many to cut.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Or which fraction of them.")] = None,
    scope: Annotated[Scope, typer.Option(help="Which components compete for the budget.")] = Scope.everywhere,
    modules: Annotated[str | None, typer.Option(help="For weights: matrices, by last name, comma-separated.")] = None,
    seed: Annotated[
        Seed | None, typer.Option(help="Output whose relevance is propagated; next: where the model would go on.")
    ] = None,
    sign: Annotated[
        Sign | None,
        typer.Option(help="Keep the sign of relevance or not; default: absolute for neurons, signed for weights."),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Fraction of each set kept for measuring.")] = 0.25,
    max_length: Annotated[int | None, typer.Option(help="Longest sample, tokens; texts are cut there.", min=2)] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response, tokens.", min=1)] = 50,
    dtype: Dtype = "auto",
    raw: Raw = False,
    scorer: Scorer = "profanity",
    as_json: Json = False,
) -> None:
    """Make a mask against a behaviour, measured on held-out prompts and text.

    Relevance is averaged over the behaviour set and the general set; what is relevant to the behaviour rather than to
    the general text is cut, up to --count or --fraction.
    """
    import masks
    from behaviours import load_scorer
    from correction import correct as correction
    from correction import models, references
    from correction.criteria import Settings

    if output.is_dir() or not output.parent.is_dir():
        raise typer.BadParameter(
            f"{output} cannot be written: its folder does not exist, or it is one", param_hint="-o"
        )
    chosen: dict[str, Any] = {"seed": seed and seed.value, "sign": sign and sign.value}
    chosen["modules"] = tuple(modules.split(",")) if modules else None
    settings = replace(Settings.default(granularity.value), **{key: value for key, value in chosen.items() if value})
    behaviour_set = references.read(behaviour, kind="prompt")
    general_set = references.read(general, kind="text")
    loaded = models.load(model, dtype=dtype)
    with _progress() as progress:
        mask = correction.correct(
            loaded,
            behaviour_set,
            general_set,
            name=name,
            count=count,
            fraction=fraction,
            criterion=criterion.value,
            settings=settings,
            scope=scope.value,
            held_out=held_out,
            scorer=load_scorer(scorer),
            raw=raw,
            max_length=max_length,
            max_new_tokens=max_new_tokens,
            progress=progress,
        )
    masks.save(mask, output)
    if as_json:
        _print_json(_described(mask))
    else:
        _out.print(f"{output}: {_count(mask)} cut, digest {mask.digest}")
        _out.print(_measured(mask))


@app.command()
def evaluate(
    model: Model,
    mask: Annotated[Path | None, typer.Option(help="Mask file: evaluate before and after.", exists=True)] = None,
    prompts: Annotated[str | None, typer.Option(help="Prompts to answer: .jsonl, .txt or hf:dataset.")] = None,
    text: Annotated[str | None, typer.Option(help="Text for perplexity: .jsonl, .txt or hf:dataset.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response, tokens.", min=1)] = 50,
    dtype: Dtype = "auto",
    raw: Raw = False,
    scorer: Scorer = "profanity",
    allow_other_base: AllowOther = False,
    as_json: Json = False,
) -> None:
    """Toxicity, repetition and perplexity, without and with a mask, with intervals."""
    import masks
    from behaviours import load_scorer
    from correction import models, references, report
    from correction.evaluation import compare
    from correction.evaluation import evaluate as measure

    if prompts is None and text is None:
        raise typer.BadParameter("give --prompts, --text or both: there is nothing to measure", param_hint="--prompts")
    given = masks.load(mask) if mask else None
    prompt_set = references.read(prompts, kind="prompt") if prompts else None
    text_set = references.read(text, kind="text") if text else None
    loaded = models.load(model, dtype=dtype)
    if given:
        masks.check(given, loaded.base, masks.parameters(loaded.path), allow_other_base=allow_other_base)
    options: dict[str, Any] = {"scorer": load_scorer(scorer), "raw": raw, "max_new_tokens": max_new_tokens}
    with _progress() as progress:
        before = measure(loaded, prompt_set, text_set, progress=progress, **options)
        rows, result = [report.row("base", before)], {"base": before.summary()}
        if given:
            options["allow_other_base"] = allow_other_base
            after = measure(loaded, prompt_set, text_set, mask=given, progress=progress, **options)
            rows.append(report.row(given.meta.name, after))
            result |= {given.meta.name: after.summary(), "difference": compare(before, after).summary()}
    if as_json:
        _print_json(result)
    else:
        _out.print(report.table(rows))
        if given:
            _out.print(f"paired differences, [value, low, high]: {json.dumps(result['difference'])}")


@app.command()
def inspect(file: MaskFile, as_json: Json = False) -> None:
    """What a mask cuts, by layer, how it was made, and what it measured."""
    from rich.table import Table

    import masks

    mask = masks.load(file)
    if as_json:
        _print_json(_described(mask))
        return
    _out.print(f"[bold]{mask.meta.name}[/bold]  {_count(mask)} cut, made {mask.meta.created_at}")
    base = mask.meta.base
    _out.print(f"digest {mask.digest}", soft_wrap=True)
    _out.print(f"base {base.id} ({base.architecture}), fingerprint {base.fingerprint}", soft_wrap=True)
    table = Table("where", "cut", "of", title="cuts")
    geometry = mask.meta.base.geometry
    for kind, cut, size in (("neurons", mask.neurons, geometry.neurons), ("heads", mask.heads, geometry.heads)):
        for layer, indices in sorted(cut.items()):
            table.add_row(f"layer {layer}, {kind}", str(len(indices)), str(size))
    for parameter in sorted(mask.weights):
        rows, columns = mask.meta.shapes[parameter]
        table.add_row(parameter, str(len(mask.weight_indices(parameter))), str(rows * columns))
    _out.print(table)
    _out.print_json(data={"made": _described(mask)["made"]})
    _out.print(_measured(mask))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model: Model,
    mask: Annotated[str | None, typer.Option(help="Load with this mask: a file, NAME or NAME@VERSION.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder for mask files and the default database.")] = None,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database.")] = None,
    api_key: Annotated[list[str] | None, typer.Option(help="Key for inference and reading; may be repeated.")] = None,
    admin_key: Annotated[list[str] | None, typer.Option(help="Key for changing calls; may be repeated.")] = None,
    max_resident_masks: Annotated[int | None, typer.Option(help="Masks in the engine at one time.")] = None,
    scorer: Annotated[str | None, typer.Option(help="Toxicity scorer for responses, or 'none'.")] = None,
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
        max_resident_masks=max_resident_masks,
        scorer=scorer,
        allow_other_base=allow_other_base or None,
    )
    bootstrap.serve(model, parsed, mask, context.args)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar for each stage, on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_err) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks or bars.tasks[tasks[stage]].finished:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


def _described(mask: Any) -> dict[str, Any]:
    return {
        "digest": mask.digest,
        "counts": dict(mask.counts),
        **json.loads(mask.meta.document()),
        "layers": {
            kind: {str(layer): len(indices) for layer, indices in sorted(cut.items())}
            for kind, cut in (("neurons", mask.neurons), ("heads", mask.heads))
        },
    }


def _measured(mask: Any) -> Any:
    """The measurements in a mask as a table."""
    from rich.table import Table

    measured = json.loads(mask.meta.document())["measured"]
    if "before" not in measured:
        return "nothing was measured with this mask"
    prompts, text = measured.get("prompts", {}), measured.get("text", {})
    title = f"held out: {prompts.get('size', 0)} prompts, {text.get('size', 0)} texts"
    table = Table("measure", "before", "after", "difference", title=title)
    difference = measured.get("difference", {})
    for key in ("toxic", "toxicity", "repetitive", "uniqueness", "perplexity"):
        if key in measured["before"]:
            figures = [_shown(measured[side][key]) for side in ("before", "after")]
            # That of the perplexity is relative: after / before - 1.
            table.add_row(key, *figures, _shown(difference[key], ".1%" if key == "perplexity" else ".3f"))
    return table


def _shown(figure: list[Any], form: str = ".3f") -> str:
    *head, low, high = figure
    value = f"{head[0]}/{head[1]}" if len(head) == 2 else format(head[0], form)
    return f"{value} [{low:{form}}, {high:{form}}]"


def _count(mask: Any) -> str:
    parts = [f"{number:,} {kind}" for kind, number in mask.counts.items() if number]
    return ", ".join(parts) or "nothing"


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))  # noqa: T201


def main() -> None:
    """Run the command line. An error of ours is one line that says what to mend; any other is a traceback."""
    try:
        app(prog_name="excise")
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("masks", "behaviours", "correction", "service", "demo"):
            raise
        _err.print(f"[bold red]excise:[/bold red] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
