import torch

from demo.measure import load
from demo.train import MODEL, batches, build_tokenizer, train


def test_training_writes_a_checkpoint_that_loads(tmp_path):
    train(3, tmp_path, seed=1)
    model, tokenizer = load(tmp_path)
    assert model.dtype == torch.bfloat16
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in MODEL.iterdir()}
    assert tokenizer.decode(tokenizer("<|user|>Hello<|end|>")["input_ids"]) == "<|bos|><|user|>Hello<|end|>"


def test_batches_are_as_many_as_asked_and_reproducible():
    tokenizer = build_tokenizer(["<|user|>Hello<|end|>"], vocabulary=300)
    first, again = ([*batches(tokenizer, 3, 5)] for _ in range(2))
    assert len(first) == 3
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_committed_tokenizer_is_the_one_training_builds(tmp_path):
    from demo.text import documents
    from demo.train import SEED

    rebuilt = build_tokenizer(documents(8000, SEED))
    assert rebuilt.get_vocab() == load(MODEL)[1].get_vocab()
