"""The page on the command line, from the Typer application."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

import excise
from docs.generate.markdown import cell, first_sentence, prose, table

HEAD = """\
# Command line

Every command has `--help`. An error is one line on standard error and exit code 1; a wrong option is exit code 2;
`excise correct` ends with 3 where it made a mask that does harm, and did not write it. With `--json` a command prints
one JSON document on standard output and nothing else there. Where values are followed by …, the option may be repeated.
"""


def commands() -> dict[str, Any]:
    """Name → command, in the order of ``excise --help``."""
    return dict(get_command(excise.app).commands)  # type: ignore[attr-defined]


def page() -> Iterator[str]:
    """Every command with its options, their values and defaults."""
    yield HEAD
    subcommands = commands()
    rows = ([f"[`excise {name}`](#excise-{name})", first_sentence(each.help)] for name, each in subcommands.items())
    yield table(("command", "what it does"), rows)
    for name, command in subcommands.items():
        yield f"\n## excise {name}\n"
        yield prose(command.help) + "\n"
        rows = ([names(each), default(each), cell(each.help)] for each in command.params if each.name != "help")
        yield table(("option", "default", "what"), rows)


def names(parameter: Any) -> str:
    """What it is called, and which values it takes."""
    opts = [*parameter.opts, *parameter.secondary_opts]
    called = ", ".join(f"`{each if each.startswith('-') else each.upper()}`" for each in opts)
    taken = values(parameter.type_descriptor.annotation)
    return f"{called} {taken}".rstrip()


def values(annotation: Any) -> str:
    """The values of a type: the choices, or its name; nothing for a flag."""
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return " \\| ".join(f"`{each.value}`" for each in annotation)
    if get_origin(annotation) is Literal:
        return " \\| ".join(f"`{each}`" for each in get_args(annotation))
    if inner := [each for each in get_args(annotation) if each is not NoneType]:
        return values(inner[0]) + (" …" if get_origin(annotation) is list else "")
    return {bool: "", str: "*text*", int: "*integer*", float: "*number*", Path: "*path*"}.get(annotation, "")


def default(parameter: Any) -> str:
    """The default as it is typed; empty where there is none."""
    value = parameter.default
    if parameter.required:
        return "required"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None or value == () else f"`{getattr(value, 'value', value)}`"
