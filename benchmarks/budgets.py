"""What each criterion leaves of a behaviour for 1%, 2% and 5% more perplexity; prints one JSON line for each row.

    python -m benchmarks.budgets [--real FOLDER] [--granularity neuron] [--criteria lrp,random] [--search 1]

On the demo model (its insults), or on the model that `benchmarks.real_text` trained into FOLDER (what it says of its
own accord). One part of the prompts and texts is attributed, another chooses how much to cut: as much as keeps the
upper end of the 80% interval of the perplexity's increase within the budget. What is printed was measured on a third
part. Every criterion is taken with its contrast of two sets; `lrp*` and `gradient*` by gain for cost; `search` is
`excise correct --max-perplexity-increase`. `random` is drawn three times.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from correction import models
from correction.attribution.criteria import CRITERIA
from correction.attribution.relevance import Granularity
from correction.correct import build_mask
from correction.data import references
from correction.data.detectors import parse_detector
from correction.errors import SelectionError
from correction.evaluation import compare, evaluate
from correction.options import AttributionOptions, GenerationOptions
from correction.search.mask_search import candidates, search
from correction.search.refinement import Refinement
from correction.search.strength import Gated, gated_count
from correction.search.validation import Budget
from correction.selection.ranking import Ranking

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("attribution", "validation", "test")


def sets_of(options: argparse.Namespace) -> dict[str, Any]:
    """Prompts and texts by part."""
    sets: dict[str, Any] = {}
    if options.real:
        for kind, column in (("prompts", "prompt"), ("general", "text")):
            for part in PARTS:
                path = options.real / "data" / f"{kind}_{part}.jsonl"
                sets[f"{kind}_{part}"] = references.read(path, kind=column)  # type: ignore[arg-type]
        return sets
    data = ROOT / "demo" / "data"
    for kind, name, column in (("prompts", "insult", "prompt"), ("general", "general", "text")):
        seen = references.read(data / f"{name}.jsonl", kind=column)  # type: ignore[arg-type]
        sets[f"{kind}_attribution"], sets[f"{kind}_validation"] = seen.split(0.3)
        sets[f"{kind}_test"] = references.read(data / f"{name}_heldout.jsonl", kind=column)  # type: ignore[arg-type]
    return sets


def rankings(granularity: Granularity, criteria: list[str]) -> dict[str, Ranking]:
    """By the names of the rows."""
    rankings_by_name: dict[str, Ranking] = {}
    for name in criteria:
        criterion = CRITERIA[name.rstrip("*")]
        if granularity not in criterion.granularities:
            continue
        if name == "random":
            rankings_by_name |= {f"random {n}": Ranking.default("random", granularity, random_seed=n) for n in range(3)}
        elif name.endswith("*"):
            rankings_by_name[name] = Ranking.default(criterion.name, granularity, "cost")
        else:
            rankings_by_name[name] = Ranking.default(name, granularity, "difference" if criterion.reads else None)
    return rankings_by_name


def main() -> None:
    """Print a line for each criterion and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--granularity", default="neuron", choices=("neuron", "head", "weight"))
    parser.add_argument("--criteria", default=",".join((*CRITERIA, "lrp*", "gradient*")))
    parser.add_argument("--budgets", default="0.01,0.02,0.05")
    parser.add_argument("--search", type=int, default=0, help="rounds of a search; 0 for none")
    options = parser.parse_args()
    torch.set_num_threads(1)  # both models are too small for more: threads would only wait for each other
    sets = sets_of(options)
    loaded = models.load(options.real or ROOT / "demo" / "model", dtype="float32")
    test = parse_detector("toxicity", threshold=0.5)
    generation_options = (
        GenerationOptions(max_new_tokens=24, samples=2, temperature=0.7) if options.real else GenerationOptions()
    )
    attribution_options = AttributionOptions(max_length=256)
    prompts, general, text = (
        sets[name] for name in ("prompts_attribution", "general_attribution", "general_validation")
    )
    reporting = generation_options.replace(seed=1).as_arguments()
    before = evaluate(loaded, sets["prompts_test"], sets["general_test"], **reporting)

    def row(name: str, budget: float, gated: Gated, seconds: float) -> None:
        record: dict[str, Any] = {"benchmark": "budgets", "model": "real" if options.real else "demo"}
        record |= {"granularity": options.granularity, "criterion": name, "budget": budget}
        record |= {"cut": gated_count(gated), "seconds": round(seconds, 1)}
        after = before
        if gated:
            mask = build_mask(loaded, gated, name="benchmark", made={})
            after = evaluate(loaded, sets["prompts_test"], sets["general_test"], mask=mask, **reporting)
        figures, was, differs = after.summary(), before.summary(), compare(before, after).summary()
        record |= {"before": was["toxic"], "after": figures["toxic"], "increase": differs["perplexity"]}
        record |= {"less": round(1 - figures["toxic"][0] / was["toxic"][0], 4), "uniqueness": figures["uniqueness"][0]}
        print(json.dumps(record), flush=True)  # noqa: T201

    named = {f"search, {options.search} rounds": candidates(options.granularity)} if options.search else {}
    ranked = rankings(options.granularity, options.criteria.split(",") if options.criteria else [])
    for name, chosen in ({name: (each,) for name, each in ranked.items()} | named).items():
        for budget in map(float, options.budgets.split(",")):
            start = time.perf_counter()
            try:
                gates = search(
                    loaded,
                    prompts,
                    general,
                    sets["prompts_validation"],
                    text,
                    test,
                    budget=Budget(budget),
                    rankings=chosen,
                    rounds=options.search if name in named else 1,
                    refinement=Refinement() if name in named else None,
                    generation_options=generation_options,
                    attribution_options=attribution_options,
                ).chosen.gated
            except SelectionError:  # nothing helps within the budget
                gates = {}
            row(name, budget, gates, time.perf_counter() - start)


if __name__ == "__main__":
    main()
