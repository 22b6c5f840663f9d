"""docs/reproduce.md: every command that it names is one that there is, with options that there are."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import excise

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "reproduce.md").read_text()
COMMANDS = re.findall(r"`(excise [^`]+)`", DOCUMENT) + re.findall(r"^    (excise .+)$", DOCUMENT, re.MULTILINE)
MODULES = re.findall(r"python -m benchmarks\.(\w+)", DOCUMENT)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_parses(line):
    _, name, *arguments = shlex.split(line)
    command = get_command(excise.app).commands.get(name)
    if command is None:
        pytest.skip(f"excise {name} is not there yet")
    known = {option: each for each in command.params for option in (*each.opts, *each.secondary_opts)}
    values = iter(arguments)
    for argument in values:
        assert argument in known, f"excise {name} has no {argument}"
        if not getattr(known[argument], "is_flag", False):
            assert not next(values).startswith("--")


def test_benchmarks_that_are_named_are_there():
    assert len(MODULES) >= 4
    for name in MODULES:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
