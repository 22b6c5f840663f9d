"""Options of the whole run, and the real model."""

from pathlib import Path

import pytest

import demo.real_model


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every combination of the engine's test matrices")


TESTS = Path(__file__).parent
SLOW = [
    "benchmarks",
    "commands",
    "demo",
    "deploy",
    "stats/sequential",
    "service/engine",
    "service/jobs/test_crash.py",
    "correction/test_sharding.py",
    "correction/evaluation/test_zero_shot.py",
    "correction/sweep",
    "correction/circuits",
    "correction/attribution/test_attribution.py",
    "correction/compression",
    "correction/improvement",
    "edits/test_export.py",
    "masks/test_torchfile.py",
    "service/api/test_hostile.py",
    "service/test_stalls.py",
    "service/scoring",
    "test_command_line.py",
    "test_examples.py",
]
"""Files and folders of simulations, trainings, several processes and fresh interpreters: marked `slow`."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """In several processes each file goes to one of them, for its fixtures; the longest, those with engines, first."""
    shared = {item.path for item in items if "engines" in item.fixturenames}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("engines" if item.path in shared else str(item.path)))
        if any(item.path.is_relative_to(TESTS / place) for place in SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not item.get_closest_marker("engine"))


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct, where `make model` puts it; made now if it is not there. Without it the test fails."""
    try:
        return demo.real_model.make()
    except demo.real_model.RealModelError as error:
        pytest.fail(f"a test marked `real` needs the real model: {error}", pytrace=False)


@pytest.fixture(scope="session")
def loaded_real_model(real_model):
    """That model in float32, as `correction.models` loads it. Not to be changed but inside a context manager."""
    from correction import models

    return models.load(real_model, dtype="float32")
