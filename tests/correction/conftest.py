import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from correction.attribution.criteria import CRITERIA
from correction.attribution.criteria.criterion import on_device
from correction.attribution.criteria.output_seeds import seeded_batches
from correction.attribution.relevance import Relevance
from correction.models import LoadedModel, load

TEXT = """
the a cat dog sea key lamp book ship tree red blue old new small big sees opens reads likes finds under over with and
who what why please tell me about you are is kind calm day night morning
"""
WORDS = TEXT.split()
CHAT = (
    "<s>{% for message in messages %}<user>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: n for n, word in enumerate(["<pad>", "<s>", "<end>", "<user>", "<answer>", "<unk>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<answer>"],
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def tiny_config(**changes) -> LlamaConfig:
    settings = {
        "vocab_size": len(WORDS) + 6,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,  # attention and gates far from uniform, so that a wrong rule shows
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaConfig(**{**settings, **changes})


def save_tiny(folder, seed=0, **changes):
    torch.manual_seed(seed)
    model = LlamaForCausalLM(tiny_config(**changes))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def scores_of(loaded, criterion, samples, settings, tokens=4096):
    """Relevance by a criterion, of samples as they stand."""
    definition = CRITERIA[criterion]
    batches = list(seeded_batches(samples, definition.seed or settings.seed, tokens=tokens))
    with definition.attach(loaded, settings, on_device) as attached:
        for batch in batches:
            attached.see(batch)
        scores = {name: score.mean(len(samples)) for name, score in attached.scores.items()}
    return Relevance(settings.granularity, scores, len(samples))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(tiny_folder) -> LoadedModel:
    return load(tiny_folder, device="cpu")
