"""What can be chosen by name, in the library and on the command line: told here, where nothing imports torch."""

from typing import Literal

Granularity = Literal["neuron", "head", "weight"]
"""What is cut."""

CriterionName = Literal["lrp", "gradient", "snip", "wanda", "activation", "causal", "cap", "magnitude", "random"]
"""How relevance is measured: see `criteria`."""

Contrast = Literal["cost", "difference", "normalised", "general", "behaviour"]
"""What is taken between the two reference sets: see `contrast.contrast`."""

Scope = Literal["global", "layer", "matrix", "row"]
"""Which components compete for the budget."""

OutputSeed = Literal["next", "last", "response", "shown", "all", "contrastive"]
Sign = Literal["signed", "absolute", "lower"]
Baseline = Literal["zero", "spared"]
"""Where relevance starts, how it is averaged, what an activation is held against: see `criteria.settings.Settings`."""

Target = Literal["toxicity", "repetition"]
"""The behaviour that a sweep aims at."""

Protocol = Literal["passages", "joined"]
"""How perplexity is read."""

MethodName = Literal["magnitude", "wanda", "ria", "sparsegpt", "lrp", "gradient", "snip", "random"]
"""How `excise compress` chooses weights: see `compression.plan`."""
