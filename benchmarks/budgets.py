"""What each criterion leaves of a behaviour for 1%, 2% and 5% more perplexity; prints one JSON line for each row.

    python -m benchmarks.budgets [--real FOLDER] [--granularity neuron] [--criteria lrp,random] [--search 2]

On the demo model (its insults), or on the model that `benchmarks.real_text` trained into FOLDER (what it says of its
own accord). One part of the prompts and texts is attributed, another chooses how much to cut: the longest start of the
ranking whose increase of perplexity, with the upper end of its 80% interval, keeps within the budget. What is printed
was measured on a third part. Every criterion is taken with its default contrast; `lrp*` and `gradient*` by the ratio of
what a cut does against the behaviour to what it costs; `search` is `excise correct --max-perplexity-increase`. `random`
is drawn three times.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from correction import models, references
from correction.behaviour_set import answer
from correction.correct import mask_of
from correction.criteria import CRITERIA, Settings
from correction.evaluation import compare, evaluate
from correction.evaluation.perplexity import perplexity
from correction.recipe import Ranking, Selected
from correction.search import candidates, search
from correction.selection import select
from correction.symptoms import shows
from correction.validation import Validation, longest_within

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("attribution", "validation", "test")


def sets_of(options: argparse.Namespace) -> dict[str, Any]:
    """Prompts and texts by part."""
    found: dict[str, Any] = {}
    if options.real:
        for kind, column in (("prompts", "prompt"), ("general", "text")):
            for part in PARTS:
                path = options.real / "data" / f"{kind}_{part}.jsonl"
                found[f"{kind}_{part}"] = references.read(path, kind=column)  # type: ignore[arg-type]
        return found
    data = ROOT / "demo" / "data"
    for kind, name, column in (("prompts", "insult", "prompt"), ("general", "general", "text")):
        seen = references.read(data / f"{name}.jsonl", kind=column)  # type: ignore[arg-type]
        found[f"{kind}_attribution"], found[f"{kind}_validation"] = seen.split(0.3)
        found[f"{kind}_test"] = references.read(data / f"{name}_heldout.jsonl", kind=column)  # type: ignore[arg-type]
    return found


def rankings(granularity: str, criteria: list[str]) -> dict[str, Ranking]:
    """By the names of the rows."""
    settings = Settings.default(granularity)  # type: ignore[arg-type]
    found: dict[str, Ranking] = {}
    for name in criteria:
        criterion = CRITERIA[name.rstrip("*")]
        if granularity not in criterion.granularities:
            continue
        if name == "random":
            found |= {f"random {n}": Ranking("random", replace(settings, random_seed=n)) for n in range(3)}
        elif name.endswith("*"):
            found[name] = Ranking(criterion.name, replace(settings, seed="response"), "ratio")
        else:
            found[name] = Ranking(name, settings)
    return found


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
    budgets = [float(each) for each in options.budgets.split(",")]
    sets = sets_of(options)
    loaded = models.load(options.real or ROOT / "demo" / "model", dtype="float32")
    test = shows("toxicity", threshold=0.5)
    asking: dict[str, Any] = {"max_new_tokens": 50}
    if options.real:
        asking = {"max_new_tokens": 24, "samples": 2, "temperature": 0.7}
    work = {"max_length": 256}
    prompts, general, text = (
        sets[name] for name in ("prompts_attribution", "general_attribution", "general_validation")
    )
    validation = Validation(loaded, sets["prompts_validation"], text, test, asking, 0.8, perplexity(loaded, text))
    answered = answer(loaded, prompts, test, **asking)
    reporting = {**asking, "seed": 1}
    before = evaluate(loaded, sets["prompts_test"], sets["general_test"], **reporting)

    def row(name: str, budget: float, selected: Selected, seconds: float) -> None:
        told: dict[str, Any] = {"benchmark": "budgets", "model": "real" if options.real else "demo"}
        told |= {"granularity": options.granularity, "criterion": name, "budget": budget}
        told |= {"cut": sum(len(each) for each in selected.values()), "seconds": round(seconds, 1)}
        after = before
        if selected:
            mask = mask_of(loaded, selected, name="benchmark", made={})
            after = evaluate(loaded, sets["prompts_test"], sets["general_test"], mask=mask, **reporting)
        figures, was, differs = after.summary(), before.summary(), compare(before, after).summary()
        told |= {"before": was["toxic"], "after": figures["toxic"], "increase": differs["perplexity"]}
        told |= {"less": round(1 - figures["toxic"][0] / was["toxic"][0], 4), "uniqueness": figures["uniqueness"][0]}
        print(json.dumps(told), flush=True)  # noqa: T201

    for name, ranking in rankings(options.granularity, options.criteria.split(",")).items():
        start = time.perf_counter()
        kinds = (answered.shown, answered.spared) if name.endswith("*") else (answered.kept, None)
        scores = ranking.scores(loaded, kinds[0], general, spared=kinds[1], **work)
        most = sum(int((score < 0).sum()) for score in scores.scores.values()) or len(scores)
        known: dict[int, float] = {}

        def cost(count: int, scores: Any = scores, known: dict[int, float] = known) -> float:
            if count not in known:
                known[count] = validation.increase(select(scores, count=count)).high
            return known[count]

        for budget in budgets:
            count = longest_within(lambda n, budget=budget: cost(n) <= budget, most)  # type: ignore[misc]
            row(name, budget, select(scores, count=count) if count else {}, time.perf_counter() - start)
    for budget in budgets if options.search else ():
        start = time.perf_counter()
        found = search(
            loaded,
            prompts,
            general,
            sets["prompts_validation"],
            text,
            test,
            max_increase=budget,
            rankings=candidates(options.granularity),
            rounds=options.search,
            asking=asking,
            attribution=work,
        )
        row(f"search, {options.search} rounds", budget, found.chosen.selected, time.perf_counter() - start)


if __name__ == "__main__":
    main()
