"""The demo on a real model: SmolLM2-135M-Instruct and the loops that it falls into by itself.

    python -m demo.real_story [--out excise-demo-real]

1. Correct: `excise correct` with its default, the most loops that 1% of perplexity buys.
2. Evaluate on openings and passages that the first step never saw, beside a random mask of the same size.
3. Serve: the mask registered while the server runs, chosen per request, and compared in an experiment.
4. Tables, picture, and commands to try by hand.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

import masks
from commands.terminal import progress_bars
from correction import models, report
from correction.correct import build_mask
from correction.data.references import ReferenceSet, read
from correction.evaluation import evaluate
from correction.models import LoadedModel
from correction.selection.cut import Cut
from correction.selection.ranking import Ranking
from demo import online, real_model
from demo.openings import openings
from demo.passages import passages
from demo.server import BY_HAND, print_by_hand, serve

NAME = "calm"
OPENINGS, PASSAGES = 240, 120
"""What `excise correct` is given; it holds a quarter of each back."""
HELD_OUT = 80, 30
"""Openings and passages of step 2, from templates and sources of their own."""


def tell(out: Path, console: Console) -> dict[str, Any]:
    """Tell the story; write data, mask, picture and `results.json` to `out`. Returns the results.

    Raises `RealModelError` without the model, `CalledProcessError` where `excise correct` fails or refuses.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = real_model.make()
    console.rule("1. Correct: the most loops that 1% of perplexity buys")
    mask = _corrected(model, out, console)

    console.rule("2. Evaluate: openings and passages never seen, before and after")
    loaded = models.load(model)
    dtype = str(loaded.dtype).removeprefix("torch.")  # float32 where the processor is slow at bfloat16
    prompts = _written(out / "openings_heldout.jsonl", "prompt", openings("heldout", HELD_OUT[0]))
    texts = _written(out / "passages_heldout.jsonl", "text", passages("heldout", HELD_OUT[1]))
    variants = [("base", None), (NAME, mask), ("random", _random(loaded, mask, texts))]
    with progress_bars() as progress:
        rows = [
            report.row(name, evaluate(loaded, prompts, texts, mask=cut, raw=True, progress=progress))
            for name, cut in variants
        ]
    del loaded  # the server needs its memory

    console.rule("3. Serve: register, choose per request, decide by experiment")
    shutil.rmtree(out / "store", ignore_errors=True)  # of a former run: its mask is another one
    with serve(model, out / "store", out / "server.log", dtype) as server, progress_bars() as progress:
        served = online.answer(server.wait(), [mask], plan(list(prompts.texts)), out, console, progress)

    console.rule("4. Result")
    console.print(report.table(rows, "Held-out openings and passages, offline"))
    console.print(online.table(served["variants"], "openings, continued"))
    report.picture(rows, out / "demo.png", "SmolLM2-135M-Instruct: what the mask does to its loops")
    results = {"offline": [asdict(row) for row in rows], "online": served}
    (out / "results.json").write_text(json.dumps(results, indent=2))
    console.print(f"Picture: {out / 'demo.png'}   Report of the experiment: {out / 'report.html'}")
    _by_hand(model, out, prompts.texts[0], console)
    return results


def plan(prompts: list[str]) -> online.Plan:
    """What the server is asked: each opening as it is, and one experiment on loops."""
    return online.Plan(prompts[: online.ROUND], prompts, (("calmer", f"{NAME}@1"),), metric="repetition", raw=True)


def _corrected(model: Path, out: Path, console: Console) -> masks.Mask:
    """Run the command that a user would type, and read the mask that it wrote."""
    behaviour, general = out / "openings.jsonl", out / "passages.jsonl"
    _written(behaviour, "prompt", openings("train", OPENINGS))
    _written(general, "text", passages("train", PASSAGES))
    path = out / f"{NAME}.safetensors"
    path.unlink(missing_ok=True)
    given = arguments(model, behaviour, general, path)
    console.print(f"excise {shlex.join(given)}", soft_wrap=True, markup=False, highlight=False)
    subprocess.run([sys.executable, "-m", "excise", *given], check=True)  # noqa: S603
    return masks.load(path)


def arguments(model: Path, behaviour: Path, general: Path, output: Path) -> list[str]:
    """What follows `excise` on the command line of step 1."""
    given = ["correct", "--model", str(model), "--behaviour", str(behaviour), "--general", str(general)]
    return [*given, "--shows", "repetition", "--raw", "--name", NAME, "-o", str(output)]


def _written(path: Path, column: str, lines: Sequence[str]) -> ReferenceSet:
    path.write_text("".join(json.dumps({column: line}) + "\n" for line in lines), encoding="utf-8")
    return read(path, kind="prompt" if column == "prompt" else "text")


def _random(loaded: LoadedModel, mask: masks.Mask, texts: ReferenceSet) -> masks.Mask:
    """As many neurons as `mask` names, drawn by lot and cut: what cutting any neurons at all would do."""
    ranking = Ranking.default("random")
    selected = Cut(count=mask.counts["neurons"]).of(loaded, ranking, texts, texts)
    return build_mask(loaded, selected, name="random", made=ranking.described())


def _by_hand(model: Path, out: Path, opening: str, console: Console) -> None:
    body = shlex.quote(json.dumps({"model": f"demo:{NAME}@1", "prompt": opening, "max_tokens": 50, "temperature": 0}))
    call = f"curl -si {BY_HAND}/v1/completions -H 'Content-Type: application/json' -d {body}"
    print_by_hand(console, model, out / "store", call)


def main() -> None:
    """Tell the story on the terminal."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("excise-demo-real"), help="folder (default: %(default)s)")
    given = parser.parse_args()
    try:
        tell(given.out, Console())
    except real_model.RealModelError as error:
        raise SystemExit(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"excise correct ended with exit code {error.returncode}: what it says is above") from error


if __name__ == "__main__":
    main()
