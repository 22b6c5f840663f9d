"""What a criterion is asked for."""

from dataclasses import dataclass
from typing import get_args

from correction.choices import Baseline, Contrast, Granularity, OutputSeed, Sign
from correction.errors import CriterionError


@dataclass(frozen=True)
class Settings:
    """The settings of an attribution, all of them recorded in the mask.

    Attributes:
        granularity: What is scored.
        seed: The output whose relevance is propagated. `last`: the largest logit at the last token. `all`: the mean
            over all tokens of the largest logit there. `next`: where the model is to go on, `last` for a prompt and
            `all` for a text, each of whose tokens is the last of a prefix. `contrastive`: at the same places as `next`,
            the largest logit less the second. `response`: the mean of the logits of the response to a
            prompt, each at the token that it is; the response is the one that came with the prompt, else the model's
            own greedy one. A text is its own response, from its second token on. Relevance starts as the logit itself,
            so a sample counts by how sure the model is. `shown`: at the tokens of the response where the behaviour
            happens (see `detectors`), or at all of them without a detector, the logit of the token less the largest
            other one: what must fall for greedy decoding to say something else.
        sign: `signed`: R̄ = mean of R_s over the samples s. `absolute`: R̄ = mean of |R_s|, where R_s is the relevance
            of a component to the whole output of sample s, summed over positions before the magnitude is taken.
            `lower`: the mean of R_s less its standard error over the samples: a lower confidence bound, so that what
            few samples say loudly does not come first.
        modules: For weights, which linear modules of a decoder layer are scored, by their last name. By default the one
            that writes the output of a neuron (`down_proj`, OPT's `fc2`): on the demo model it cut more of the
            behaviour for a given perplexity than the MLP's three together.
        layers: Which decoder layers are scored, counted from 0; by default all.
        response_tokens: At most this many tokens of a response, for the seed `response`.
        random_seed: Of the criterion `random`.
        baseline: What the activation of a neuron or head is held against. `zero`: its absence, a · ∂. `spared`: what it
            is in a response to the same prompt that does not show the behaviour, (a − ā) · ∂, where ā is its mean over
            the tokens of that response; nothing is relevant before the first token of the response, where both are
            the same. Only prompts that have responses of both kinds are read.
    """

    granularity: Granularity = "neuron"
    seed: OutputSeed = "next"
    sign: Sign = "absolute"
    modules: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    response_tokens: int = 50
    random_seed: int = 0
    baseline: Baseline = "zero"

    @classmethod
    def default(cls, granularity: Granularity = "neuron", contrast: Contrast = "difference") -> "Settings":
        """The settings that fit a contrast.

        For a contrast with the cost, seeds are where the behaviour happens, and the lower bound is taken. For the
        others it is what measured best on the demo model: the magnitude of relevance for neurons, its sign for weights.
        """
        if contrast == "cost":
            return cls(granularity, seed="shown", sign="lower")
        return cls(granularity, sign="signed" if granularity == "weight" else "absolute")

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("granularity", self.granularity, get_args(Granularity)),
            ("seed", self.seed, get_args(OutputSeed)),
            ("sign", self.sign, get_args(Sign)),
            ("baseline", self.baseline, get_args(Baseline)),
        ):
            if value not in allowed:
                raise CriterionError(f"{key} {value!r} does not exist; there is: {', '.join(allowed)}")
        if self.baseline == "spared" and (self.granularity == "weight" or self.seed not in ("response", "shown")):
            raise CriterionError(
                "the baseline spared compares activations of two responses: it is for neurons or heads, and for the "
                f"seeds response and shown, not for {self.granularity}s by the seed {self.seed}"
            )
        if self.modules is not None and self.granularity != "weight":
            raise CriterionError(f"modules names matrices whose weights are scored; {self.granularity}s have none")
        if self.modules is not None and not all(self.modules or [""]):
            raise CriterionError("modules must name at least one linear module, none of them by nothing")
        if self.layers is not None and (not self.layers or len(set(self.layers)) != len(self.layers)):
            raise CriterionError("layers must name at least one layer, and each only once")
        if self.response_tokens < 1:
            raise CriterionError(f"response_tokens is {self.response_tokens}; it must be at least 1")
