"""The log: one format for what Excise, vLLM and its web server say, in every process; lines of text, or of JSON."""

from __future__ import annotations

import json
import logging
import os
import re
from typing import Any, Literal

from service import timestamps

Form = Literal["text", "json"]

FIELDS = "excise"
"""Attribute of a record: a dict that a line of JSON has as well, such as who changed what."""

_VARIABLE = "EXCISE_LOG_FORMAT"
"""Also how the processes that the server starts learn the form."""
_OURS = ("service", "behaviours", "edits", "masks")
_THEIRS = ("vllm", "uvicorn", "uvicorn.error", "uvicorn.access", "py.warnings")


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that could move a terminal's cursor, or end a line where no line ends."""


class Lines(logging.Formatter):
    """A line of text: `2026-11-27T15:45:02.123Z INFO [EngineCore 42 service.audit] message`.

    Further lines of a message are indented, so that no message can look like another one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        where = f"{_process(record)} {record.process} {record.name}"
        said = "\n".join([record.getMessage(), *_traces(self, record)])
        shown = _UNSEEN.sub(_escaped, said.rstrip()).replace("\n", "\n    ")
        return f"{timestamps.iso_text(record.created)} {record.levelname} [{where}] {shown}"


class JsonLines(logging.Formatter):
    """A line of JSON: `{"time": …, "level": …, "process": …, "pid": …, "logger": …, "message": …}`.

    One line whatever the message; with `exception` where there was one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": timestamps.iso_text(record.created),
            "level": record.levelname,
            "process": _process(record),
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if traces := _traces(self, record):
            entry["exception"] = "\n".join(traces)
        return json.dumps(entry, default=str)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _process(record: logging.LogRecord) -> str:
    """VLLM names its processes itself."""
    name = str(getattr(record, "vllm_process_name", record.processName))
    return "APIServer" if name == "MainProcess" else name


def _traces(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    traces = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return [*traces, *([formatter.formatStack(record.stack_info)] if record.stack_info else [])]


class WithoutRoutes(logging.Filter):
    """Leaves out vLLM's list of every route.

    Most of them are closed here; `GET /openapi.json` has those that are not.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is anything else."""
        return not str(record.msg).startswith(("Route: ", "Available routes are"))


def formatter(form: str) -> logging.Formatter:
    """Of a form."""
    return JsonLines() if form == "json" else Lines()


def begin(form: Form) -> None:
    """Show our messages in `form` from now on, here and in every process that is started from here."""
    os.environ[_VARIABLE] = form
    # torch shows its own, in a format of its own, before anybody can give it another.
    os.environ.setdefault("TORCH_LOGS_FORMAT", "%(asctime)s %(levelname)s [%(process)d %(name)s] %(message)s")
    for name in _OURS:
        logging.getLogger(name).handlers.clear()
    show()


def show() -> None:
    """Show our warnings and what is worth knowing, on standard error. May be called again.

    A library that vLLM imports sets the root logger to errors only, and our loggers would follow it.
    """
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = logger.disabled = False
        if not logger.handlers:
            logger.addHandler(logging.StreamHandler())
            logger.handlers[0].setFormatter(formatter(os.environ.get(_VARIABLE, "text")))
    for handler in logging.getLogger("torch").handlers:
        handler.setFormatter(formatter(os.environ.get(_VARIABLE, "text")))


def configuration(level: str, stream: str, unlogged: list[str]) -> dict[str, Any]:
    """For `logging.config.dictConfig`: all in one format to one stream.

    Args:
        level: of the loggers.
        stream: where lines go.
        unlogged: paths whose requests are not worth a line.
    """
    kind = "JsonLines" if os.environ.get(_VARIABLE) == "json" else "Lines"
    handled = {"handlers": ["excise"], "propagate": False}
    filters: dict[str, dict[str, Any]] = {"routes": {"()": "service.logs.WithoutRoutes"}}
    access: dict[str, Any] = {**handled, "level": "INFO"}
    if unlogged:
        filters["unlogged"] = {"()": "vllm.logging_utils.UvicornAccessLogFilter", "excluded_paths": unlogged}
        access["filters"] = ["unlogged"]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"excise": {"()": f"service.logs.{kind}"}},
        "filters": filters,
        "handlers": {"excise": {"class": "logging.StreamHandler", "formatter": "excise", "stream": stream}},
        "loggers": {
            **{name: {**handled, "level": "INFO"} for name in _OURS},
            **{name: {**handled, "level": level} for name in _THEIRS},
            "uvicorn.access": access,
            "vllm.entrypoints.launchers.launcher": {"filters": ["routes"]},
        },
        "root": {"handlers": ["excise"]},
    }
