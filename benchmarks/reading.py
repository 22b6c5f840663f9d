"""What a change of a model does to text: the divergence of its predictions, and the loss, token by token.

The model's last hidden states are kept, 1 KB a token, and not its logits, 100 KB a token: a change is then measured by
one pass through the changed model, for as many changes as there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from correction.data.tokenisation import batches
from correction.evaluation.perplexity import increase
from correction.models import LoadedModel
from stats.estimates import bootstrap

_CHUNK = 512


@dataclass(frozen=True)
class Change:
    """Sums over the predicted tokens of each text, float64 (texts,) each.

    Attributes:
        before: Negative log-likelihood, in nats.
        after: Negative log-likelihood, in nats.
        divergence: KL(before ‖ after), in nats.
        agreements: Tokens whose most likely successor stayed the same.
        tokens: Number of predictions.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    divergence: NDArray[np.float64]
    agreements: NDArray[np.float64]
    tokens: NDArray[np.float64]

    def summary(self) -> dict[str, Any]:
        """Perplexity before; its relative increase and KL per token, each [value, low, high]; agreement in [0, 1]."""
        rise = bootstrap(increase, self.before, self.after, self.tokens)
        kl = bootstrap(per_token, self.divergence, self.tokens)
        return {
            "tokens": int(self.tokens.sum()),
            "perplexity": round(float(np.exp(per_token(self.before, self.tokens))), 3),
            "increase": [round(each, 5) for each in (rise.value, rise.low, rise.high)],
            "kl": [round(each, 6) for each in (kl.value, kl.low, kl.high)],
            "agreement": round(float(per_token(self.agreements, self.tokens)), 4),
        }


def per_token(sums: NDArray[np.float64], tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over tokens, along the last axis."""
    return sums.sum(-1) / tokens.sum(-1)


class Reading:
    """Texts as token ids, and the hidden states of the model as it is now: read it before anything is changed.

    Args:
        samples: At least two tokens each.
    """

    def __init__(self, loaded: LoadedModel, samples: Sequence[Sequence[int]]) -> None:
        self._loaded, self._samples = loaded, samples
        self._before = self._states(samples)

    def change(self, samples: Sequence[Sequence[int]] | None = None) -> Change:
        """What the model of now does, compared with that of then.

        Args:
            samples: The same texts, each perhaps with something before it, such as an instruction.
        """
        rows = [
            self._compared(sample, before, after)
            for sample, before, after in zip(self._samples, self._before, self._states(samples), strict=True)
        ]
        return Change(*np.array(rows).T)

    @torch.no_grad()
    def _states(self, samples: Sequence[Sequence[int]] | None) -> list[Tensor]:
        """Of each text, what its second token to its last is predicted from: (tokens − 1, hidden)."""
        given = self._samples if samples is None else samples
        states: list[Tensor] = [torch.empty(0)] * len(given)
        for places, batch in batches(given, 2048, self._loaded.device):
            hidden = self._loaded.decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
            for row, place in enumerate(places):
                end = len(given[place]) - 1
                states[place] = hidden[row, end - len(self._samples[place]) + 1 : end].clone()
        return states

    @torch.no_grad()
    def _compared(self, sample: Sequence[int], before: Tensor, after: Tensor) -> tuple[float, ...]:
        head: Any = self._loaded.model.get_output_embeddings()
        targets = torch.tensor(sample[1:], device=before.device)
        sums = np.zeros(4)
        for one, other, target in zip(*(each.split(_CHUNK) for each in (before, after, targets)), strict=True):
            p, q = (F.log_softmax(head(each).float(), -1) for each in (one, other))
            chunk_sums = (
                F.nll_loss(p, target, reduction="sum"),
                F.nll_loss(q, target, reduction="sum"),
                F.kl_div(q, p, reduction="sum", log_target=True),
                (p.argmax(-1) == q.argmax(-1)).sum(),
            )
            sums += [float(each) for each in chunk_sums]
        return (*sums, len(targets))
