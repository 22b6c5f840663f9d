from tests.correction.conftest import tiny, tiny_folder

__all__ = ["tiny", "tiny_folder"]
