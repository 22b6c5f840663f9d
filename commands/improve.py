"""`excise improve`: the worker of a server's jobs."""

import time
from pathlib import Path
from typing import Annotated

import typer

from commands.cli_options import SETS, Dtype, General, Json, Model, NewTokens, Scorer

_FAILED = 3
"""Exit code of --once where the job failed: no mask, since it does harm, or there were too few prompts."""


def improve(
    server: Annotated[str, typer.Option(help="Address of the server.")],
    key_file: Annotated[Path, typer.Option(help="File with an admin key of the server.", exists=True, dir_okay=False)],
    model: Model,
    general: General,
    prompts: Annotated[
        str | None,
        typer.Option(help=f"Prompts that promoted masks are measured again on: {SETS}. Without, others do that."),
    ] = None,
    neutral: Annotated[str | None, typer.Option(help=f"Neutral prompts of the quality card: {SETS}.")] = None,
    folder: Annotated[
        Path, typer.Option(help="Folder of this worker: its name, journals, masks. A restart goes on from there.")
    ] = Path("excise-improve"),
    once: Annotated[bool, typer.Option("--once", help="Do one job if one is free, and end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks for a job.", min=0.1)] = 10.0,
    max_new_tokens: NewTokens = 50,
    dtype: Dtype = "auto",
    scorer: Scorer = "profanity",
    as_json: Json = False,
) -> None:
    """Make masks from a server's flagged traffic, and measure promoted ones again: the worker of POST /jobs.

    It takes a job that is free, has excise correct and excise evaluate do it in processes of their own, registers the
    mask and hands in what it measured; the server does the rest. Runs anywhere that has the model, never in the server.
    Run it with the same folder to go on after a stop. With --once the exit code is 3 if the job failed.
    """
    from commands.terminal import print_json, print_warning
    from correction.improvement.client import Client, JobLostError
    from correction.improvement.folder import WorkerFolder
    from correction.improvement.worker import Setup, Worker

    worker_folder = WorkerFolder(folder)
    client = Client(server, key_file, worker_folder.worker)
    options = ("--dtype", dtype, "--scorer", scorer, "--max-new-tokens", str(max_new_tokens))
    worker = Worker(client, worker_folder, Setup(model, general, prompts, neutral, options), print_warning)
    try:
        while True:
            job = None
            try:
                job = worker.once()
            except JobLostError as error:
                print_warning(str(error))
            if once:
                if as_json:
                    print_json(job or {})
                elif job is None:
                    print_warning("no job was done: none is free")
                raise typer.Exit(_FAILED if job and job["state"] == "failed" else 0)
            if job is None:
                time.sleep(every)
    finally:
        client.close()
        worker_folder.close()
