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
    "correction/search",
    "correction/test_correct.py",
    "correction/test_families.py",
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
    "service/test_logs.py",
    "service/test_stalls.py",
    "service/scoring",
    "test_command_line.py",
    "test_examples.py",
]
"""Files and folders of simulations, trainings, searches, several processes and fresh interpreters: marked `slow`."""


ENGINES = {f"test_{name}.py" for name in ("administration", "exactness", "experiments", "inference")}
"""Files that share the engines of `service/engine/conftest.py`."""


def pytest_collection_modifyitems(items):
    """Marks, and the longest first: with several processes, what comes last should be short."""
    for item in items:
        if any(item.path.is_relative_to(TESTS / place) for place in SLOW):
            item.add_marker(pytest.mark.slow)
        assert ("engines" in item.fixturenames) <= (item.path.name in ENGINES), f"{item.path.name} belongs to ENGINES"
    items.sort(
        key=lambda item: (
            item.path.name not in ENGINES,
            item.get_closest_marker("engine") is None,
            item.get_closest_marker("slow") is None,
        )
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """In several processes each file goes to one of them, for its fixtures, and all of `ENGINES` to the same."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "engines" if Path(path).name in ENGINES else path

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
