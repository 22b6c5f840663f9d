import pytest

from correction.compression import calibrate
from correction.data.references import ReferenceSet
from correction.models import load
from tests.correction.conftest import WORDS, save_tiny

PASSAGES = tuple(" ".join(WORDS[(3 * n + step * (n % 7 + 1)) % len(WORDS)] for step in range(9)) for n in range(60))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two blocks of seven matrices, in float32."""
    return save_tiny(tmp_path_factory.mktemp("compression"))


@pytest.fixture
def texts():
    return ReferenceSet(PASSAGES, "passages.txt", "text")


@pytest.fixture
def model(folder):
    """A fresh one: compression changes it."""
    return load(folder, device="cpu")


@pytest.fixture
def calibration(model, texts):
    return calibrate(model, texts, windows=8, window=16)
