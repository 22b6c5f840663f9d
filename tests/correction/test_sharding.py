"""A model whose layers are shared out among two processes must give what it gives in one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed as torch_distributed
from torch.distributed.tensor import DTensor

import masks
from correction import distributed
from correction.ablation import ablated
from correction.attribution.attribution import attribute
from correction.attribution.criteria import CRITERIA, Settings
from correction.attribution.criteria.cost import COST
from correction.attribution.criteria.criterion import on_device
from correction.attribution.criteria.output_seeds import Sample, seeded_batches
from correction.data.generation import generate
from correction.errors import CorrectionError
from correction.models import load
from tests.correction.attribution.test_attribution import PROMPTS, TEXTS
from tests.correction.conftest import save_tiny
from tests.correction.families import save_family
from tests.forked import ROOT, excise, run_excise, two_ranks

IDS = torch.tensor([[1, 8, 17, 30, 9, 22], [1, 14, 6, 25, 11, 3]])
ODD = 47  # neurons, so that the parts of two processes differ in size
CASES = [
    (criterion, granularity, checkpointing)
    for criterion in ("lrp", "gradient", "snip", "wanda", "activation", "magnitude")
    for granularity in ("neuron", "head", "weight")
    if granularity in CRITERIA[criterion].granularities
    for checkpointing in ((False, True) if criterion in ("lrp", "gradient") else (False,))
]


def matrix(loaded, *names):
    """The name of a linear module's weight in the first layer, by the first of these names that it has."""
    return next(
        name
        for name, _ in loaded.model.named_parameters()
        if name.startswith(f"{loaded.blocks[0].prefix}.") and name.endswith(tuple(f"{each}.weight" for each in names))
    )


def cuts(loaded):
    rng = np.random.default_rng(0)
    down, up = matrix(loaded, "down_proj", "fc2"), matrix(loaded, "up_proj", "fc1")
    width = loaded.base.geometry.neurons
    weights = {down: rng.choice(32 * width, 300, replace=False), up: np.array([0, 5, 32 * width - 1])}
    return {
        "neurons": masks.for_model(loaded.path, "m", neurons={0: [0, width - 1, 5], 1: [13]}),
        "heads": masks.for_model(loaded.path, "m", heads={0: [3], 1: [0, 2]}),
        "weights": masks.for_model(loaded.path, "m", weights=weights),
    }


def logits(loaded):
    with torch.no_grad():
        return loaded.model(IDS).logits


def results(loaded):
    """Everything that a correction asks of a model, as tensors and lists."""
    outputs = {"logits": logits(loaded)}
    for kind, mask in cuts(loaded).items():
        with ablated(loaded, mask):
            outputs[kind] = logits(loaded)
            outputs[f"scores with {kind} cut"] = dict(attribute(loaded, PROMPTS, tokens=30).scores)
    for criterion, granularity, checkpointing in CASES:
        settings = Settings.default(granularity)
        given = {"criterion": criterion, "checkpointing": checkpointing, "tokens": 30}
        outputs[f"{criterion} {granularity} {checkpointing}"] = dict(attribute(loaded, TEXTS, settings, **given).scores)
    for granularity in ("neuron", "head", "weight"):
        outputs[f"cost {granularity}"] = dict(
            attribute(loaded, TEXTS, Settings(granularity), criterion=COST, tokens=30).scores
        )
        lower = Settings(granularity, seed="shown", sign="lower", response_tokens=3)
        outputs[f"lower {granularity}"] = dict(attribute(loaded, PROMPTS, lower, tokens=30).scores)
    absolute = Settings(granularity="weight", sign="absolute", seed="response", response_tokens=3, layers=(1,))
    outputs["absolute"] = dict(attribute(loaded, PROMPTS, absolute, tokens=30).scores)
    # One batch for two processes: one of them idles throughout.
    outputs["one batch"] = dict(attribute(loaded, TEXTS, criterion="wanda").scores)
    outputs["one batch, backwards"] = dict(attribute(loaded, TEXTS).scores)
    outputs["responses"] = generate(loaded, IDS.tolist(), max_new_tokens=8)
    outputs["logits again"] = logits(loaded)
    return outputs


def state(loaded):
    """Where every attribute of every module and every hook comes from, and the values of the parameters."""
    modules = {
        name: (type(module), module.training, set(module.__dict__), len(module._forward_pre_hooks))
        for name, module in loaded.model.named_modules()
    }
    parameters = {name: parameter.requires_grad for name, parameter in loaded.model.named_parameters()}
    return modules, parameters, loaded.model.config._attn_implementation


def in_each_process(folder, out):
    """What the processes run."""
    with distributed.process_group():
        loaded = load(folder, device="cpu")
        before = {name: parameter.clone() for name, parameter in loaded.model.named_parameters()}
        distributed.shard_model(loaded)
        logits(loaded)  # what FSDP makes ready in its first pass is no trace of ours
        first = state(loaded)
        outputs = results(loaded)
        assert state(loaded) == first
        parts = {}
        for name, parameter in loaded.model.named_parameters():
            assert torch.equal(distributed.full_tensor(parameter.detach()), before[name]), name
            assert parameter.grad is None, name
            inside = any(name.startswith(f"{block.prefix}.") for block in loaded.blocks)
            assert isinstance(parameter, DTensor) == inside, name
            if inside:
                parts[name] = [parameter.to_local().numel(), parameter.numel()]
        # A journal that is a batch behind that of the other process.
        journal = Path(f"{out}-journal-{distributed.rank()}")
        attribute(loaded, PROMPTS, tokens=30, resume=journal)
        if distributed.rank() == 1:
            next(journal.iterdir()).unlink()
        outputs["resumed"] = dict(attribute(loaded, PROMPTS, tokens=30, resume=journal).scores)
        torch.save({"found": outputs, "parts": parts}, f"{out}.{distributed.rank()}")


def torchrun(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "excise"]
    command += map(str, arguments)
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=240)
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_sharded_model_gives_what_a_whole_one_gives(tmp_path, family):
    folder, out = tmp_path / family, tmp_path / "out"
    save_tiny(folder, intermediate_size=ODD) if family == "llama" else save_family(family, folder)
    two_ranks(in_each_process, folder, out)
    loaded = load(folder, device="cpu")
    one = results(loaded) | {"resumed": dict(attribute(loaded, PROMPTS).scores)}
    assert not torch.allclose(one["weights"], one["logits"], atol=1e-2)
    shares = [torch.load(f"{out}.{rank}") for rank in (0, 1)]
    for share in shares:
        assert share["found"].keys() == one.keys()
        for name, expected in one.items():
            output = share["found"][name]
            if name == "responses":
                assert output == expected
                continue
            for key, score in expected.items() if isinstance(expected, dict) else [(name, expected)]:
                got = output[key] if isinstance(expected, dict) else output
                tolerance = 1e-5 * float(score.abs().max())
                torch.testing.assert_close(got, score, rtol=0, atol=tolerance, msg=lambda told, n=name: f"{n}: {told}")
    for name, (part, total) in shares[0]["parts"].items():
        assert part + shares[1]["parts"][name][0] == total, name
        assert total / 2 <= part <= total / 2 + 32, name


def test_a_process_alone_holds_everything(tiny):
    parameter = tiny.blocks[0].down_proj.weight
    values, start = distributed.local_shard(parameter)
    assert (values.data_ptr(), len(values), start) == (parameter.data_ptr(), parameter.numel(), 0)
    assert distributed.full_tensor(parameter) is parameter
    assert distributed.all_reduce_max(3) == 3


def test_sharding_without_processes_is_refused(tiny):
    assert not torch_distributed.is_initialized()
    with pytest.raises(CorrectionError, match="torchrun"):
        distributed.shard_model(tiny)


def test_an_idle_pass_counts_for_nothing(tiny):
    (batch,) = seeded_batches([Sample((1, 8, 17), (9,))], "response")
    for criterion in (*CRITERIA.values(), COST):
        for granularity in criterion.granularities if criterion.reads else ():
            for settings in (Settings.default(granularity), Settings.default(granularity, "cost")):
                with criterion.attach(tiny, settings, on_device) as attached:
                    attached.see(batch.idle())
                    for score in attached.scores.values():
                        assert not score.sum.any(), (criterion.name, settings)


# --- the command line -------------------------------------------------------------------------------------------------

MODEL, DATA = ROOT / "demo" / "model", ROOT / "demo" / "data"


def few(path, source, rows):
    path.write_text("".join((DATA / source).read_text().splitlines(keepends=True)[:rows]))
    return path


def arguments(folder, name, *more):
    behaviour, general = few(folder / "b.jsonl", "insult.jsonl", 12), few(folder / "g.jsonl", "general.jsonl", 12)
    return (
        *("correct", "--model", MODEL, "--behaviour", behaviour, "--general", general, "--no-filter", "--count", 20),
        *("--dtype", "float32", "--max-new-tokens", 8, "--name", name, "-o", folder / f"{name}.safetensors", "--json"),
        *("--tokens", 300, "--accept-worse", *more),  # so few texts are no ground to refuse a mask
    )


def components(mask):
    neurons = {(layer, each) for layer, cut in mask.neurons.items() for each in cut.tolist()}
    return neurons | {(name, each) for name in mask.weights for each in mask.weight_indices(name).tolist()}


def perplexities(document):
    return [document["measured"][side]["perplexity"][0] for side in ("before", "after")]


@pytest.mark.parametrize("granularity", ["neuron", "weight"])
def test_the_command_makes_the_same_mask_from_a_sharded_model(tmp_path, granularity):
    more = ("--granularity", granularity)
    sharded = arguments(tmp_path, "two", *more, "--shard")
    run = torchrun(*sharded) if granularity == "neuron" else two_ranks(run_excise, *map(str, sharded))
    document = json.loads(run.stdout)
    run = excise(*arguments(tmp_path, "one", *more))
    assert run.returncode == 0, run.stderr
    expected = json.loads(run.stdout)
    for perplexity, wanted in zip(perplexities(document), perplexities(expected), strict=True):
        assert perplexity == pytest.approx(wanted, rel=1e-3)
    two, one = (components(masks.load(tmp_path / f"{name}.safetensors")) for name in ("two", "one"))
    assert len(two) == len(one) == 20
    assert len(two & one) >= 19  # the last of them may be a tie


def test_sharding_in_one_process_is_refused_before_the_model_is_loaded(tmp_path):
    run = excise(*arguments(tmp_path, "m", "--shard"))
    assert run.returncode == 2
    assert "torchrun" in run.stderr
