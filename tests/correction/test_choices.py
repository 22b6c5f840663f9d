"""What is chosen by name is told once: the command line's choices are the library's, and cost no import of torch."""

import subprocess
import sys
from typing import get_args

import pytest
from typer.testing import CliRunner

from correction import choices
from correction.attribution.criteria import CRITERIA
from correction.compression import METHODS
from excise import app


def test_every_criterion_and_method_can_be_chosen():
    assert get_args(choices.CriterionName) == tuple(CRITERIA)
    assert get_args(choices.MethodName) == tuple(METHODS)


@pytest.mark.parametrize(
    ("command", "option", "names"),
    [
        ("correct", "--granularity", choices.Granularity),
        ("correct", "--scope", choices.Scope),
        ("circuit", "--rival", choices.CriterionName),
        ("compress", "--method", choices.MethodName),
    ],
)
def test_a_name_that_does_not_exist_is_refused_with_those_that_do(command, option, names):
    result = CliRunner().invoke(app, [command, option, "x"], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output
    assert f"'x' is not one of {', '.join(map(repr, get_args(names)))}." in result.output


@pytest.mark.parametrize("command", ["--help", "correct --help", "correct --granularity x"])
def test_help_and_wrong_options_do_not_wait_for_torch(command):
    program = f"""
import sys
from typer.testing import CliRunner
from excise import app
CliRunner().invoke(app, {command.split()!r})
print(sorted({{"torch", "transformers", "vllm", "scipy"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr
