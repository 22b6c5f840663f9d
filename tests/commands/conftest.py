"""The tiny model of the tests of `correction`."""

from tests.correction.conftest import tiny, tiny_folder  # noqa: F401
