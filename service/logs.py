"""Excise's own messages: seen at the server's standard error, whatever libraries do to the root logger."""

from __future__ import annotations

import logging

_OURS = ("service", "behaviours", "edits", "masks")
_FORMAT = "%(levelname)s %(asctime)s [%(name)s] %(message)s"


def show() -> None:
    """Show warnings and what is worth knowing. May be called again.

    A library that vLLM imports sets the root logger to errors only, and our loggers would follow it.
    """
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter(_FORMAT))
            logger.addHandler(handler)
