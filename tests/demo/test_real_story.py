"""The story on the real model: what it asks of the command line and of the server."""

from pathlib import Path

from typer.main import get_command

from demo import real_story
from excise import app


def test_the_command_of_the_story_is_one_that_excise_knows():
    name, *given = real_story.arguments(Path("m"), Path("b"), Path("g"), Path("calm.safetensors"))
    correct = get_command(app).commands[name]
    known = {option for parameter in correct.params for option in parameter.opts}
    assert {argument for argument in given if argument.startswith("-")} <= known
    assert all(set(parameter.opts) & set(given) for parameter in correct.params if parameter.required)


def test_the_server_is_asked_to_go_on_with_openings_and_watched_for_loops():
    plan = real_story.plan([f"opening {number}" for number in range(100)])
    assert plan.raw
    assert plan.metric == "repetition"
    assert plan.experiments == (("calmer", "calm@1"),)
    assert plan.prompts == plan.asked[:60]
