import pytest

from masks import header
from tests.masks.samples import mixed


def test_a_library_that_lays_files_out_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "canonical", lambda metadata, entries: b"{}      ")
    with pytest.raises(RuntimeError, match=r"safetensors \d"):
        mixed().dumps()
