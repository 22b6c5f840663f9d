"""`excise compress`: half of the weights, or two of every four, cut; a checkpoint or a mask."""

from pathlib import Path
from typing import Annotated

import typer

from commands.cli_options import SETS, Dtype, Json, Model, Tokens, check_writable_file, check_writable_folder
from commands.terminal import out, print_json, progress_bars
from correction.choices import MethodName, OutputSeed, Scope, Sign


def compress(
    model: Model,
    text: Annotated[str, typer.Option(help=f"Text to calibrate with: {SETS}.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for a dense checkpoint, or a mask: a name in .safetensors.")
    ],
    method: Annotated[MethodName, typer.Option(help="What weights are cut by.")] = "wanda",
    fraction: Annotated[float | None, typer.Option(help="Of the weights; default 0.5.")] = None,
    scope: Annotated[
        Scope | None, typer.Option(help="Which weights compete; by default as the method's source.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(help="N:M, as 2:4: of M weights along a row, N are cut.")] = None,
    sequential: Annotated[
        bool | None,
        typer.Option(help="Block by block on inputs that are pruned already; default: wherever the method can."),
    ] = None,
    windows: Annotated[int, typer.Option(help="Windows of text to read.", min=1)] = 128,
    window: Annotated[int | None, typer.Option(help="Tokens of a window; default 2048, or the context.", min=2)] = None,
    seed: Annotated[OutputSeed, typer.Option(help="Output that lrp and gradient start from, at each window.")] = "last",
    sign: Annotated[Sign, typer.Option(help="Of lrp and gradient: mean magnitude, or magnitude of the mean.")] = (
        "absolute"
    ),
    random_seed: Annotated[int, typer.Option(help="Order of the passages, and the method random.", min=0)] = 0,
    name: Annotated[str | None, typer.Option(help="Of the mask; by default the method's.")] = None,
    dtype: Dtype = "auto",
    tokens: Tokens = 4096,
    as_json: Json = False,
) -> None:
    """Cut half of the weights of every linear matrix, by a method of pruning. The result is dense: not faster."""
    from correction import models
    from correction.compression import METHODS, Plan, calibrate
    from correction.compression import compress as cut
    from correction.compression.output import as_mask, write_checkpoint
    from correction.data.references import read
    from masks import save
    from masks.meta import check_name

    as_file = output.suffix == ".safetensors"
    if as_file and METHODS[method].mends:
        raise typer.BadParameter(
            f"{method} also changes the weights that stay, which a mask cannot say: name a folder",
            param_hint="-o",
        )
    if as_file:
        check_writable_file(output, "-o")
        check_name(name := name or method)
    else:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise typer.BadParameter(f"{output} is there already: name a new or an empty folder", param_hint="-o")
        check_writable_folder(output.absolute().parent, "-o", "its folder")
        if name is not None:
            raise typer.BadParameter("is of a mask, and a checkpoint has none", param_hint="--name")
    if fraction is None and pattern is None:
        fraction = 0.5
    plan = Plan(
        method,
        fraction,
        scope,
        pattern,
        sequential,
        sign,  # type: ignore[arg-type]
        seed,
        random_seed,
    )
    texts = read(text, kind="text")
    loaded = models.load(model, dtype=dtype)
    with progress_bars() as progress:
        calibration = calibrate(loaded, texts, windows=windows, window=window, seed=random_seed)
        compressed = cut(loaded, calibration, plan, tokens=tokens, progress=progress)
    summary = {"made": dict(compressed.made), "cut_weights": compressed.count, "weights": compressed.total}
    if as_file:
        mask = as_mask(loaded, compressed, str(name))
        save(mask, output)
        summary |= {"mask": mask.name, "digest": mask.digest}
    else:
        write_checkpoint(loaded, compressed, output)
        summary |= {"folder": str(output)}
    if as_json:
        print_json(summary)
        return
    share = compressed.count / compressed.total
    kind = "mask" if as_file else "dense checkpoint"
    out.print(
        f"{output}: {kind}, {compressed.count:,} of {compressed.total:,} weights cut ({share:.1%})", soft_wrap=True
    )
