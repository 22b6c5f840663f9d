"""Zero-shot tasks through lm-eval (EleutherAI's evaluation harness), an optional library."""

import copy
import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import masks
from correction.ablation import ablated
from correction.errors import EvaluationError
from correction.models import LoadedModel


def tasks(
    loaded: LoadedModel,
    names: Sequence[str],
    *,
    mask: masks.Mask | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    few_shot: int | None = None,
    task_folder: Path | None = None,
    allow_other_base: bool = False,
) -> dict[str, dict[str, Any]]:
    """Run tasks of lm-eval on the model, without a chat template.

    lm-eval seeds the global random generators of Python, NumPy and torch. Most tasks fetch their data set from the
    Hugging Face hub.

    Args:
        loaded: The model.
        names: Tasks or groups, such as `boolq`, `rte`, `hellaswag`, `winogrande`, `arc_easy`, `arc_challenge` and
            `openbookqa`, the seven of Wanda.
        mask: Applied during the tasks; None for the model as it is.
        limit: Only this many items of each task, from the start. For a trial: such figures are not comparable.
        batch_size: Rows of a batch.
        few_shot: Worked examples before each item; by default the task's own number, mostly none.
        task_folder: A folder with tasks of your own, as YAML files; read once a process.
        allow_other_base: Whether a mask that was made for another fingerprint is taken, where the geometry fits.

    Returns:
        By task, and by group: `metrics`, {name: {"value", "stderr"}}, the error None where the metric has none;
        `version` of the task; `few_shot`, the number; `items`, how many were measured (a group may have neither: None);
        `lm_eval`, the library's version.

    Raises:
        EvaluationError: lm-eval is not installed, no task of such a name, or a number that cannot be used.
    """
    for key, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise EvaluationError(f"{key} is {value}; it must be at least 1")
    if few_shot is not None and few_shot < 0:
        raise EvaluationError(f"few_shot is {few_shot}; it must be at least 0")
    if task_folder is not None and not task_folder.is_dir():
        raise EvaluationError(f"{task_folder}: there is no such folder of tasks")
    harness, huggingface = _libraries()
    known = _catalogue(None if task_folder is None else str(task_folder.resolve()))
    unknown = [name for name in names if name not in known.all_tasks]
    if unknown or not names:
        raise EvaluationError(
            f"lm-eval {harness.__version__} has no task {', '.join(map(repr, unknown)) or 'without a name'}; "
            "`lm-eval ls tasks` lists those that it has, and a task_folder adds your own"
        )
    # The harness gives its tokenizer a padding token: a copy keeps that away from ours.
    model = huggingface.HFLM(
        pretrained=loaded.model,
        tokenizer=copy.deepcopy(loaded.tokenizer),
        backend="causal",
        batch_size=batch_size,
        max_length=loaded.context_length,
    )
    with nullcontext() if mask is None else ablated(loaded, mask, allow_other_base=allow_other_base):
        results = harness.simple_evaluate(
            model=model,
            tasks=list(names),
            num_fewshot=few_shot,
            batch_size=batch_size,
            limit=limit,
            task_manager=known,
            log_samples=False,
        )
    return {
        name: {
            "metrics": _metrics(figures),
            "version": results["versions"].get(name),
            "few_shot": results["n-shot"].get(name),
            "items": results["n-samples"].get(name, {}).get("effective"),
            "lm_eval": harness.__version__,
        }
        for name, figures in results["results"].items()
    }


@lru_cache(maxsize=1)
def _catalogue(folder: str | None) -> Any:
    """All tasks: lm-eval reads thousands of files for it, so once for a base and its masks."""
    return importlib.import_module("lm_eval.tasks").TaskManager(include_path=folder)


def _libraries() -> tuple[Any, Any]:
    try:
        return importlib.import_module("lm_eval"), importlib.import_module("lm_eval.models.huggingface")
    except ImportError as error:
        raise EvaluationError(f"zero-shot tasks need another library ({error}): pip install 'lm-eval[hf]'") from error


def _metrics(figures: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Figures by name: lm-eval writes `acc,none` and `acc_stderr,none`, after the comma the filter of the answers."""
    metrics: dict[str, dict[str, float | None]] = {}
    for key, value in figures.items():
        metric, comma, chosen = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            error = figures.get(f"{metric}_stderr,{chosen}")
            metrics[metric if chosen == "none" else key] = {
                "value": float(value),
                "stderr": float(error) if isinstance(error, int | float) else None,
            }
    return metrics
