"""How long work reports its progress: a callback, so that only the command line draws anything."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many of it are done, and how many there are."""


def silent(stage: str, done: int, total: int) -> None:
    """Say nothing."""
