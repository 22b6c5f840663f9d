"""Options of the whole run, and the real model."""

from pathlib import Path

import pytest

import demo.real_model


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every combination of the engine's test matrices")


TESTS = Path(__file__).parent
SLOW = [
    "service/engine",
    "test_command_line.py",
    "correction/search",
    "correction/test_sharding.py",
    "correction/evaluation/test_zero_shot.py",
    "demo",
    "benchmarks",
    "commands",
    "correction/test_correct.py",
    "correction/test_families.py",
    "correction/sweep",
    "correction/circuits",
    "correction/attribution/test_attribution.py",
    "correction/compression",
    "correction/improvement",
    "service/jobs/test_crash.py",
    "service/scoring",
    "service/api/test_hostile.py",
    "service/test_logs.py",
    "service/test_stalls.py",
    "stats/sequential",
    "test_examples.py",
    "deploy",
    "edits/test_export.py",
    "masks/test_torchfile.py",
]
"""Files and folders of simulations, trainings, searches, several processes and fresh interpreters, those that take
longest first: marked `slow`."""


SHARED = "tests/service/engine/shared"
"""The folder whose tests share engines."""


def pytest_collection_modifyitems(items):
    """Marks, and the longest first: with several processes, what comes last should be short."""
    order = {}
    for item in items:
        place = next((number for number, each in enumerate(SLOW) if item.path.is_relative_to(TESTS / each)), len(SLOW))
        if place < len(SLOW):
            item.add_marker(pytest.mark.slow)
        order[item] = not item.nodeid.startswith(SHARED), place
    items.sort(key=order.__getitem__)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """In several processes each file goes to one of them, for its fixtures, and all of `SHARED` to the same."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SHARED if nodeid.startswith(SHARED) else nodeid.partition("::")[0]

    return ByFile(config, log)


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
