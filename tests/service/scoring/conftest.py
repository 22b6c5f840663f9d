import sys

import pytest

from tests.service.scoring.stage import install


@pytest.fixture
def cued(tmp_path, monkeypatch):
    """The scorers of `stage` under their names, in this process and in those that it starts."""
    install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("cued_scorers", None)
