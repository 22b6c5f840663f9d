"""What changes the time and memory of an attribution must not change its result."""

import time
from pathlib import Path

import pytest
import torch

from correction import distributed, models
from correction.attribution import attribution
from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.attribution.criteria.output_seeds import Sample, seeded_batches
from correction.data.references import ReferenceSet
from correction.errors import JournalError
from tests.forked import Forked, two_ranks

THINGS = ("cat", "dog", "sea", "key", "lamp", "book", "ship", "tree")
PROMPTS = ReferenceSet(tuple(f"what is a {'new ' * n}{thing}" for n, thing in enumerate(THINGS)), "p", "prompt")
TEXTS = ReferenceSet(
    tuple(f"the {thing} sees {'the old red ' * (n + 1)} lamp" for n, thing in enumerate(THINGS)), "t", "text"
)


def equal(found, expected, tolerance=0.0):
    assert list(found.scores) == list(expected.scores)
    for name, score in expected.scores.items():
        torch.testing.assert_close(found.scores[name], score, rtol=0, atol=tolerance * float(score.abs().max()))


@pytest.mark.parametrize("granularity", ["neuron", "head", "weight"])
@pytest.mark.parametrize("criterion", ["lrp", "gradient", "snip"])
def test_checkpointing_gives_the_same(tiny, granularity, criterion):
    settings = Settings(granularity=granularity)
    plain = attribute(tiny, TEXTS, settings, criterion=criterion)
    equal(attribute(tiny, TEXTS, settings, criterion=criterion, checkpointing=True), plain, 1e-6)


def test_checkpointing_keeps_less(tiny):
    (batch,) = seeded_batches([Sample(tuple(range(3, 40)))], "last")

    def kept():
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            batch.output(tiny)
        return total

    with attribution._checkpointed(tiny):
        fewer = kept()
    assert 0 < fewer < kept() / 3


@pytest.mark.parametrize("granularity", ["neuron", "weight"])
def test_scores_in_files_are_the_same(tiny, tmp_path, granularity):
    settings = Settings(granularity=granularity)
    relevance = attribute(tiny, TEXTS, settings, scores_in=tmp_path)
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    equal(relevance, attribute(tiny, TEXTS, settings))
    other = attribute(tiny, PROMPTS, settings, scores_in=tmp_path)
    equal(relevance, attribute(tiny, TEXTS, settings))  # the second has files of its own
    equal(other, attribute(tiny, PROMPTS, settings))
    assert not list(tmp_path.iterdir())


def test_many_logits_are_taken_in_parts(tiny, monkeypatch):
    plain = attribute(tiny, TEXTS, Settings(seed="all"))
    monkeypatch.setattr("correction.attribution.criteria.output_seeds._LOGITS", 46 * 5)
    equal(attribute(tiny, TEXTS, Settings(seed="all")), plain, 1e-6)


def in_each_process(folder, out):
    """What the processes run."""
    with distributed.process_group():
        loaded = models.load(folder, device="cpu")
        relevances = [
            attribute(loaded, PROMPTS, Settings(seed="response", response_tokens=3), tokens=20),
            attribute(loaded, TEXTS, Settings(granularity="weight", sign="absolute"), tokens=20, criterion="gradient"),
            attribute(loaded, TEXTS, Settings(random_seed=4), criterion="random"),
        ]
        if distributed.rank() == 1:
            torch.save([dict(each.scores) for each in relevances], out)


def test_two_processes_give_what_one_gives(tiny, tiny_folder, tmp_path):
    two_ranks(in_each_process, tiny_folder, out := tmp_path / "two.pt")
    expected = [
        attribute(tiny, PROMPTS, Settings(seed="response", response_tokens=3)),
        attribute(tiny, TEXTS, Settings(granularity="weight", sign="absolute"), criterion="gradient"),
        attribute(tiny, TEXTS, Settings(random_seed=4), criterion="random"),
    ]
    for scores, one in zip(torch.load(out), expected, strict=True):
        for name, score in one.scores.items():
            torch.testing.assert_close(scores[name], score, rtol=0, atol=1e-5 * float(score.abs().max()))


def batches_seen(monkeypatch):
    seen = []
    output = attribution.SeededBatch.output
    monkeypatch.setattr(
        attribution.SeededBatch, "output", lambda self, loaded: seen.append(self) or output(self, loaded)
    )
    return seen


def attribute_and_stay(folder, tmp_path):
    """What the process runs: it stays where it has told of the third batch."""

    def tell(stage, done, total):
        if done == 3:
            (tmp_path / "third").touch()
            time.sleep(300)

    loaded = models.load(folder, device="cpu")
    attribute(loaded, PROMPTS, tokens=1, resume=tmp_path / "journal", progress=tell)


def test_a_run_that_was_killed_goes_on_where_it_was(tiny, tiny_folder, tmp_path, monkeypatch):
    log = tmp_path / "log"
    run = Forked(attribute_and_stay, (tiny_folder, tmp_path), log, log, {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (tmp_path / "third").exists() and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.05)
    run.kill()
    run.wait(10)
    assert (tmp_path / "third").exists()
    seen = batches_seen(monkeypatch)
    relevance = attribute(tiny, PROMPTS, tokens=1, resume=tmp_path / "journal")
    assert len(seen) == len(THINGS) - 3
    plain = attribute(tiny, PROMPTS, tokens=1)
    equal(relevance, plain, 1e-5)  # the other process may have had another number of threads
    seen.clear()
    equal(attribute(tiny, PROMPTS, tokens=1, resume=tmp_path / "journal"), plain, 1e-5)
    assert not seen
    attribute(tiny, PROMPTS, Settings(sign="signed"), tokens=1, resume=tmp_path / "journal")
    assert len(seen) == len(THINGS)


def test_a_damaged_journal_is_told(tiny, tmp_path):
    attribute(tiny, PROMPTS, resume=tmp_path)
    (journal,) = tmp_path.iterdir()
    journal.write_bytes(journal.read_bytes()[:-9])
    with pytest.raises(JournalError, match=r"attribution-.*delete it to start afresh"):
        attribute(tiny, PROMPTS, resume=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="no journal can be kept there"):
        attribute(tiny, PROMPTS, resume=tmp_path / "file")


def test_the_loss_seed_of_snip_is_of_the_response():
    (batch,) = seeded_batches([Sample((1, 2), (5, 6))], "response")
    assert batch.tokens.tolist() == [5, 6]
    assert batch.batch.input_ids.tolist() == [[1, 2, 5]]
