"""The model families that Excise knows, in one table: what each calls its modules, and its sizes in config.json.

A new family is one entry here, and one in the tests' `tests/correction/families.py`.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Family:
    """Attribute paths of a transformers model, then (`norms` … `o_proj`) of each of its decoder layers.

    `down_proj` reads the neurons and `o_proj` the heads, under any name that the family has for them.
    `gate` is None where the MLP has no gate; `final_norm` and `mlp` are None where there is no such module.
    """

    causal_model: str
    """The class in a checkpoint's config.json; vLLM's model of that name takes gates."""
    decoder: str = "model"
    layers: str = "model.layers"
    final_norm: str | None = "model.norm"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    mlp: str | None = "mlp"
    gate: str | None = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    activation: str = "mlp.act_fn"
    down_proj: str = "mlp.down_proj"
    o_proj: str = "self_attn.o_proj"
    projections: str = r"(?:mlp|self_attn)\.\w+_proj"
    """Pattern of the linear modules of a layer."""
    neurons_key: str = "intermediate_size"
    """The key of config.json that holds the neurons of a layer."""


_LLAMA = Family("LlamaForCausalLM")

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": replace(_LLAMA, causal_model="MistralForCausalLM"),
    "qwen2": replace(_LLAMA, causal_model="Qwen2ForCausalLM"),
    "qwen3": replace(
        _LLAMA,
        causal_model="Qwen3ForCausalLM",
        norms=(*_LLAMA.norms, "self_attn.q_norm", "self_attn.k_norm"),
    ),
    "opt": Family(
        "OPTForCausalLM",
        decoder="model.decoder",
        layers="model.decoder.layers",
        final_norm="model.decoder.final_layer_norm",
        norms=("self_attn_layer_norm", "final_layer_norm"),
        mlp=None,
        gate=None,
        up="fc1",
        activation="activation_fn",
        down_proj="fc2",
        o_proj="self_attn.out_proj",
        projections=r"self_attn\.\w+_proj|fc[12]",
        neurons_key="ffn_dim",
    ),
}
"""By `model_type` of the config. Attention must go through transformers' registry of attention functions."""


def values(field: str) -> tuple[str, ...]:
    """What the families have in a field, each once, in the order of the table."""
    return tuple(dict.fromkeys(getattr(family, field) for family in FAMILIES.values()))
