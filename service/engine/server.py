"""Starts vLLM's own OpenAI server with ours plugged in: one process tree, nothing of the OpenAI API rewritten."""

from __future__ import annotations

import errno
import importlib.metadata
import logging
import os
import socket
from argparse import ArgumentParser, Namespace
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import masks
from masks.families import values
from service.engine import vllm_logs
from service.engine.plugin import NAME
from service.engine.vllm_names import check_version
from service.errors import InvalidRequestError
from service.settings import VLLM_KEY, Settings
from service.shutdown import LEAVE

_DRAIN = 30
"""Seconds that running requests have when the server is asked to stop, unless --shutdown-timeout says otherwise."""

_ADAPTERS = "adapters carry the masks; --max-resident-masks says how many"
_LOADER = "its loader reads the files that masks are made for"
_OURS = {
    "api_key": "give keys with Excise's own --api-key or EXCISE_API_KEYS",
    "api_server_count": "routes and metrics live in one API process",
    "data_parallel_size": "run one server a replica",
    "enable_lora": _ADAPTERS,
    "lora_modules": _ADAPTERS,
    "lora_target_modules": _ADAPTERS,
    "fully_sharded_loras": _ADAPTERS,
    "max_cpu_loras": _ADAPTERS,
    "max_lora_rank": _ADAPTERS,
    "max_loras": _ADAPTERS,
    "load_format": _LOADER,
    "model_loader_extra_config": _LOADER,
    "model_tag": "the model is given with --model",
    "worker_extension_cls": "it asks the gates",
}
_CLOSED_ENVIRONMENT = (
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_ENABLE_RESPONSES_API_STORE",
    "VLLM_SERVER_DEV_MODE",
    "VLLM_SKIP_MODEL_NAME_VALIDATION",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """A server that can be started: the model's folder, the name it is served by, and vLLM's parsed options."""

    folder: Path
    name: str
    options: Namespace


def can_gate(architecture: str) -> bool:
    """Whether masks can be applied per request to this Hugging Face architecture."""
    return architecture in values("causal_model")


def prepare(model: str, options: list[str]) -> Launch:
    """Find the model and check vLLM's options, as vLLM itself understands them.

    A bad option of vLLM's own ends the process with its usage, as vLLM's command does.

    Args:
        model: a folder, or a hub id, which is downloaded.
        options: of vLLM's command line.

    Raises:
        InvalidRequestError: an option is one that Excise sets itself, however it is spelt, or there is no such folder.
    """
    check_version()
    _set_environment()
    given = _parse(options)
    _check_tls(given)
    names = given.served_model_name or []
    if len(names) > 1:
        raise InvalidRequestError("give one --served-model-name: masks are named after it", code="bad_option")
    folder = Path(model)
    if folder.is_dir():
        return Launch(folder, names[0] if names else folder.resolve().name, given)
    return Launch(_download(model, given.revision), names[0] if names else model, given)


def _set_environment() -> None:
    """Settings that vLLM takes from the environment alone."""
    os.environ.pop(VLLM_KEY, None)  # the settings have it: the gateway asks for it, on every route
    for variable in _CLOSED_ENVIRONMENT:
        if os.environ.pop(variable, None):
            _log.warning("%s would open a door around the masks; ignored", variable)
    if "VLLM_CPU_KVCACHE_SPACE" not in os.environ and not _accelerator():
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB
    os.environ["VLLM_PLUGINS"] = NAME
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ["VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"] = "1"  # the service ends the server, after telling its clients


def _parse(options: list[str]) -> Namespace:
    """Options as vLLM's own command reads them; those that Excise sets itself are refused."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser: ArgumentParser = make_arg_parser(FlexibleArgumentParser(prog="excise serve"))
    parser.set_defaults(host="127.0.0.1", shutdown_timeout=_DRAIN)
    given = parser.parse_args(options)
    for option, why in _OURS.items():
        if getattr(given, option, None) != parser.get_default(option):
            flag = "--" + option.replace("_", "-")
            raise InvalidRequestError(f"{flag} is set by Excise: {why}", code="bad_option", param=flag)
    if given.config:  # where it is read, nothing is left of it
        raise InvalidRequestError(
            f"vLLM would leave the file out that is given so; write --config {given.config}, without '='",
            code="bad_option",
            param="--config",
        )
    return given


def _download(model: str, revision: str | None) -> Path:
    """The folder of a model of the Hugging Face hub."""
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise InvalidRequestError(f"--model {model}: no such folder", code="bad_option", param="--model")
    from huggingface_hub import snapshot_download

    unwanted = ["*.bin", "*.pt", "*.gguf", "original/*"]
    return Path(snapshot_download(model, revision=revision, ignore_patterns=unwanted))


def _check_tls(given: Namespace) -> None:
    """Refuse options that were to close the connection and would do nothing.

    Raises:
        InvalidRequestError: one of them is given without the option that it needs.
    """
    if (given.ssl_keyfile or given.ssl_ca_certs or given.ssl_cert_reqs) and not given.ssl_certfile:
        raise InvalidRequestError(
            "without --ssl-certfile the server would speak plain HTTP, whatever other --ssl option is given",
            code="bad_option",
            param="--ssl-certfile",
        )
    if given.ssl_ca_certs and not given.ssl_cert_reqs:
        raise InvalidRequestError(
            "--ssl-ca-certs checks no client without --ssl-cert-reqs 2", code="bad_option", param="--ssl-cert-reqs"
        )


def _is_local(options: Namespace) -> bool:
    """Whether only this machine can reach the server."""
    return bool(options.uds) or options.host == "localhost" or options.host.startswith("127.") or options.host == "::1"


def run(launch: Launch, settings: Settings, *, mask: Path | None = None, gated: bool = True) -> None:
    """Run vLLM's server until it is stopped. Blocks. See `configured`."""
    import uvloop
    from vllm.entrypoints.launchers.api_server.entry import run_server
    from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args

    if beside := [path.name for path in masks.checkpoint_files(launch.folder).others()]:
        _log.info("not read as weights of the model: %s", ", ".join(beside))
    if not (settings.api_keys or settings.api_key_file or _is_local(launch.options)):
        _log.warning(
            "no key is asked for: whoever reaches %s may use the model and read every mask; "
            "--api-key-file or EXCISE_API_KEYS changes that",
            launch.options.host,
        )
    options = configured(launch, settings, mask=mask, gated=gated)
    options.logging_config = vllm_logs.adopt(options)
    validate_parsed_serve_args(options)
    uvloop.run(run_server(options, timeout_graceful_shutdown=LEAVE))


def configured(launch: Launch, settings: Settings, *, mask: Path | None, gated: bool) -> Namespace:
    """VLLM's options with ours. `mask` is the file of a mask to load with, named by its digest."""
    from service.engine.loader import LOAD_FORMAT

    options = copy(launch.options)
    options.model, options.served_model_name, options.revision = str(launch.folder), [launch.name], None
    options.middleware = [*options.middleware, *_outermost(options)]
    options.root_path = "/" + root if (root := (options.root_path or "").strip("/")) else None
    if (settings.max_mirrored or settings.coherence_rate) and options.scheduling_policy == "fcfs":
        options.scheduling_policy = "priority"  # so that copies and judgements come after all that somebody waits for
    options.worker_extension_cls = "service.engine.worker_extension.MaskControl"
    if gated:
        options.enable_lora, options.max_lora_rank, options.max_loras = True, 1, settings.max_resident_masks
        # vLLM hashes this into the key of its compile cache, so graphs with gates are never taken for graphs without.
        ours = {"gates": importlib.metadata.version("excise"), "max_weight_rank": settings.max_weight_rank}
        options.additional_config = {**options.additional_config, "excise": ours}
    options.load_format, options.model_loader_extra_config = LOAD_FORMAT, {"mask": str(mask)} if mask else {}
    if options.config_format == "auto":
        options.config_format = "hf"  # what masks know of the model is in its config.json; never params.json
    return options


def check_free(launch: Launch) -> None:
    """Raise `InvalidRequestError` where nothing can listen: now, not when the engine is up."""
    host, port = launch.options.host or "", launch.options.port
    if launch.options.uds:
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as vLLM's own: a port just let go is free
        try:
            tried.bind((host, port))
        except (OSError, OverflowError) as error:
            why = "another program listens there" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
            raise InvalidRequestError(
                f"cannot listen on {host or 'any address'}, port {port}: {why}; give others with --host and --port",
                code="bad_option",
                param="--port",
            ) from error


def cross_origin(launch: Launch) -> dict[str, Any]:
    """VLLM's options for browsers of other origins, as Starlette names them."""
    given = launch.options
    return {
        "allow_origins": given.allowed_origins,
        "allow_methods": given.allowed_methods,
        "allow_headers": given.allowed_headers,
        "allow_credentials": given.allow_credentials,
    }


def _outermost(options: Namespace) -> list[str]:
    """Middleware around all of vLLM's, the outermost last: refusals of the gateway need an origin and an id as well."""
    options.allowed_origins, options.allow_credentials = [], False  # those of vLLM's own, further inside
    middleware = ["service.api.middleware.Gateway"]
    if options.enable_request_id_headers:
        options.enable_request_id_headers = False
        middleware.append("vllm.entrypoints.serve.middleware.x_request_id.XRequestIdMiddleware")
    return [*middleware, "service.api.cross_origin.CrossOrigin"]


def _accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()
