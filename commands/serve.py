"""`excise serve`: vLLM's server with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.cli_options import AllowOther, Model


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
