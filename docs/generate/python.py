"""The page on the Python API: signatures and docstrings of what is meant to be imported."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from docs.generate.markdown import first_sentence, prose

PUBLIC: dict[str, tuple[str, ...]] = {
    "masks": (
        *("Mask", "Meta", "BaseModel", "Geometry", "load", "loads", "save", "for_model", "check", "fingerprint"),
        *("describe", "parameters", "MaskError"),
    ),
    "behaviours": ("ToxicityScorer", "load_scorer", "is_refusal", "is_repetitive", "response_uniqueness_ratio"),
    "correction.models": ("load", "wrap", "LoadedModel"),
    "correction.data.references": ("ReferenceSet", "read", "overlap"),
    "correction.data.detectors": ("Detector", "parse_detector"),
    "correction.data.behaviour_set": ("build",),
    "correction.selection.ranking": ("Ranking",),
    "correction.selection.cut": ("Cut",),
    "correction.attribution.criteria": ("Criterion", "Settings", "find_criterion"),
    "correction.attribution.attribution": ("attribute",),
    "correction.correct": ("correct", "measure", "Splits"),
    "correction.search.perplexity_budget": ("correct_within_budget",),
    "correction.search.validation": ("Budget",),
    "correction.options": ("GenerationOptions", "AttributionOptions"),
    "correction.ablation": ("ablated",),
    "correction.evaluation": ("evaluate", "compare", "card", "Evaluation"),
    "correction.circuits": ("find_circuit", "task_rows", "CircuitSearch", "Circuit", "Pair"),
    "edits.export": ("export",),
}
"""Module → the names that are documented, in this order."""

HEAD = """\
# Python API

What is meant to be imported; everything else may change in any release. Values are frozen dataclasses. Errors that
say what to mend are `ValueError`s, one tree a package. [Your first mask](../tutorials/first-mask.md) shows how the
parts go together.
"""


def page() -> Iterator[str]:
    """The documented names, by module."""
    yield HEAD
    for module, names in PUBLIC.items():
        home = importlib.import_module(module)
        yield f"\n## {module}\n"
        yield prose((home.__doc__ or "").split("\n\n>>>")[0])
        for name in names:
            yield f"\n### {module}.{name}\n"
            yield from described(name, getattr(home, name))


def described(name: str, item: Any) -> Iterator[str]:
    """Signature, docstring and, of a class, its public methods and properties."""
    if signature := signed(name, item):
        yield f"```python\n{signature}\n```\n"
    yield prose(inspect.getdoc(item))
    members = (
        [line for member, value in vars(item).items() if (line := _member(member, value))] if _is_class(item) else []
    )
    if members:
        yield "\n" + "\n".join(members)


def _is_class(item: Any) -> bool:
    return inspect.isclass(item)


def _member(name: str, value: Any) -> str:
    """One line on a method or property; empty where there is nothing to be said."""
    plain = isinstance(value, property) or hasattr(value, "func")
    function = value.fget if isinstance(value, property) else getattr(value, "func", value)
    function = getattr(function, "__func__", function)
    if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
        return ""
    taken = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
    return f"- `{name}{'' if plain else '(' + ', '.join(taken) + ')'}`: {first_sentence(function.__doc__)}"


def signed(name: str, item: Any) -> str:
    """The signature, an argument a line where it is long; empty for what is not called."""
    called = not inspect.isclass(item) or dataclasses.is_dataclass(item) or "__init__" in vars(item)
    if not called or getattr(item, "_is_protocol", False):
        return ""
    signature = inspect.signature(item)
    arguments = list(_arguments(signature))
    answer = "" if inspect.isclass(item) else _annotated(" -> ", signature.return_annotation)
    line = f"{name}({', '.join(arguments)}){answer}"
    return line if len(line) <= 100 else f"{name}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){answer}"


def _arguments(signature: inspect.Signature) -> Iterator[str]:
    """Each parameter as it is written, and the star that those by keyword alone stand behind."""
    starred = False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        stars = "*" * (each.kind is each.VAR_POSITIONAL) + "**" * (each.kind is each.VAR_KEYWORD)
        default = "" if each.default is each.empty else f" = {_default(each.default)}"
        yield f"{stars}{each.name}{_annotated(': ', each.annotation)}{default}"


def _annotated(mark: str, annotation: Any) -> str:
    """An annotation without module names, behind its mark; nothing where there is none."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return mark + re.sub(r"\b(?:[A-Za-z_]\w*\.)+([A-Za-z_]\w*)", r"\1", text)


def _default(value: Any) -> str:
    """A default, written the same in every run: a set in order, a function without its address."""
    if isinstance(value, frozenset) and value:
        return f"frozenset({{{', '.join(map(repr, sorted(value)))}}})"
    if inspect.isfunction(value):
        return "…" if value.__name__ == "<lambda>" else value.__name__
    return repr(value).replace("<factory>", "…")
