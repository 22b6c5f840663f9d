"""Starting the server: what is refused before an engine is started, however it is spelt."""

import socket

import pytest

from service import settings
from service.engine import server
from service.errors import InvalidRequestError
from tests.forked import excise, forked
from tests.service.server import MODEL, ROOT

REFUSED = [
    "--load-format dummy",
    "--load_format dummy",
    "--load-forma=dummy",
    "--model-loader-extra-config.masks+ x",
    '--model_loader_extra_config {"masks":[]}',
    "--enable-lora",
    "--enable_lora",
    "--max-loras 2",
    "--lora-modules a=b",
    "--api_key x",
    "--worker-extension-cls a.B",
    "--data-parallel-size 2",
    "--served-model-name a b",
    "--config=options.yaml",
    "--ssl-keyfile key.pem",
    "--ssl-cert-reqs 2 --ssl-ca-certs ca.pem",
    "--ssl-certfile cert.pem --ssl-keyfile key.pem --ssl-ca-certs ca.pem",
]
ACCEPTED = [
    "--ssl-certfile cert.pem --ssl-keyfile key.pem --ssl-ca-certs ca.pem --ssl-cert-reqs 2",
    "",
    "--served-model-name other",
    "--port 1 --dtype float32 --max_model_len 256 --middleware a.b",
]


def prepare_each(lines):
    for line in lines:
        try:
            print("accepted", server.prepare(str(MODEL), line.split()).name)  # noqa: T201
        except InvalidRequestError as error:
            print("refused", error.param)  # noqa: T201


def test_options_that_excise_sets_are_refused_in_every_spelling():
    run = forked(prepare_each, [*REFUSED, *ACCEPTED])
    answers = [line for line in run.stdout.splitlines() if line.startswith(("refused", "accepted"))]
    assert [answer.split()[0] for answer in answers[: len(REFUSED)]] == ["refused"] * len(REFUSED), run.stderr[-2000:]
    assert answers[len(REFUSED) :] == ["accepted model", "accepted model", "accepted other", "accepted model"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "/no/such/folder"], "no such folder"),
        (["--model", str(MODEL), "--scorer", "typo"], "there is no scorer 'typo'"),
        (["--model", str(MODEL), "--max-resident-masks", "0"], "max_resident_masks = 0"),
        (["--model", str(MODEL), "--mask", "nothing"], "no such file"),
        (["--model", str(MODEL), "--api-key", ""], "empty key"),
        (["--model", str(ROOT / "tests")], "config.json"),
        (["--model", "./[/x]"], "./[/x]"),
    ],
)
def test_a_bad_start_is_one_clear_line(tmp_path, options, said):
    run = excise("serve", *options, "--store", tmp_path / "store")
    assert run.returncode == 1
    assert said in run.stderr.replace("\n", " ")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_one_clear_line(tmp_path, host):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        try:
            taken.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        taken.listen()
        port = str(taken.getsockname()[1])
        test_a_bad_start_is_one_clear_line(
            tmp_path,
            ["--model", str(MODEL), "--host", host, "--port", port],
            f"cannot listen on {host}, port {port}: another program listens there; give others with",
        )


def print_hashes():
    from vllm.engine.arg_utils import AsyncEngineArgs

    launch = server.prepare(str(MODEL), ["--max-model-len", "256"])
    for given, gated in (({}, False), ({}, True), ({"max_weight_rank": 0}, True), ({}, True)):
        options = server.configured(launch, settings.parse(**given), mask=None, gated=gated)
        config = AsyncEngineArgs.from_cli_args(options).create_engine_config()
        assert (config.load_config.load_format, config.model_config.config_format) == ("excise", "hf")
        print("HASH", config.compute_hash(), int(config.compilation_config.mode))  # noqa: T201


def test_engines_with_and_without_gates_share_no_compile_cache_and_both_compile():
    run = forked(print_hashes)
    found = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("HASH")]
    plain, gated, unweighted, again = (digest for digest, _ in found)
    assert len({plain, gated, unweighted}) == 3, run.stderr[-2000:]
    assert gated == again
    assert len({mode for _, mode in found}) == 1
    assert found[0][1] != "0"
