"""The page on the server's settings, from ``service.settings``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docs.generate.command_line import commands
from docs.generate.markdown import cell, table
from service.settings import Settings

HEAD = """\
# Settings of the server

Each setting is an option of `excise serve`, or a variable of the environment; the option wins. Whatever else is
passed to `excise serve` goes to vLLM (`--port`, `--host`, `--dtype`, …). Keys on the command line show in the list of
processes; files and variables do not. [Serve a model with masks](../how-to/serve.md) explains keys, probes and
limits.
"""
TAIL = """
Beside these, `--model` names the model and `--mask`, which may be repeated, applies masks at load. `VLLM_API_KEY`
counts as a key where neither `EXCISE_API_KEYS` nor `EXCISE_API_KEY_FILE` is set.
"""
_BOUNDS = (("ge", "at least"), ("gt", "over"), ("le", "at most"), ("lt", "under"))


def page() -> Iterator[str]:
    """Option, variable, default, meaning and bounds of each."""
    options = {each.name.rstrip("s"): each.opts[0] for each in commands()["serve"].params}
    yield HEAD
    rows = []
    for name, field in Settings.model_fields.items():
        option = options.get(name.rstrip("s"))
        rows.append([f"`{option}`" if option else "", f"`EXCISE_{name.upper()}`", default(field), meaning(field)])
    yield table(("option", "variable", "default", "what"), rows)
    yield TAIL


def default(field: Any) -> str:
    """The default; empty where there is none, or where it is a secret."""
    value = field.default
    if value in (None, "", ()) or "Secret" in str(field.annotation):
        return ""
    return ("on" if value else "off") if isinstance(value, bool) else f"`{value}`"


def meaning(field: Any) -> str:
    """What it is, with its bounds."""
    bounds = [
        f"{word} {getattr(each, bound):,}"
        for each in field.metadata
        for bound, word in _BOUNDS
        if getattr(each, bound, None) is not None
    ]
    return cell(field.description) + (f" ({', '.join(bounds)})" if bounds else "")
