"""What vLLM and its web server say, in the format of our log."""

from __future__ import annotations

import atexit
import json
import logging
import os
from argparse import Namespace
from dataclasses import replace
from logging.config import dictConfig
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from service import logs


def adopt(options: Namespace) -> Any:
    """VLLM's `LoggingConfig` for its parsed `options`: ours, unless the operator has given a file of their own.

    Every process of vLLM's reads the file that it names, and so does uvicorn; here it counts at once. Source:
    vllm/config/logging.py, and `get_uvicorn_log_config`.
    """
    from vllm.config.logging import LoggingConfig

    given = getattr(options, "logging_config", None) or LoggingConfig()
    given = replace(given, log_level=getattr(options, "log_level", None) or given.log_level)
    file = getattr(options, "log_config_file", None) or given.pylogging_config_file
    if file or not given.configure_logging:
        return replace(given, pylogging_config_file=file)
    excluded = (options.disable_access_log_for_endpoints or "").split(",")
    stream = os.environ.get("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    configuration = logs.configuration(given.log_level, stream, [path.strip() for path in excluded if path.strip()])
    with NamedTemporaryFile("w", prefix="excise-log-", suffix=".json", delete=False) as written:
        json.dump(configuration, written)
    atexit.register(Path(written.name).unlink, missing_ok=True)
    dictConfig(configuration)
    logging.captureWarnings(True)
    return replace(given, pylogging_config_file=written.name)
