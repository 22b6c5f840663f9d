"""What a model, or a circuit alone, answers to the rows of a task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.criteria.scored_modules import find_scored_modules
from correction.circuits.circuit_ablation import ZERO, Ablation, Kept, circuit_only
from correction.circuits.prompt_pairs import TaskRow
from correction.data.tokenisation import Batch, batches
from correction.models import LoadedModel
from stats.estimates import Floats


@dataclass(frozen=True)
class TaskAnswers:
    """Answers by row.

    Attributes:
        differences: logit(correct) − logit(wrong) at the last token, float64 (rows,).
        log_probs: Of every next token there, float32 (rows, vocabulary); None unless they were asked for.
    """

    differences: Floats
    log_probs: Tensor | None = None

    @property
    def right(self) -> Floats:
        """1.0 where the correct answer is the likelier of the two, else 0.0: (rows,)."""
        return (self.differences > 0).astype(np.float64)

    def divergence(self, circuit: "TaskAnswers") -> Floats:
        """KL(this ‖ circuit) of the next token, in nats: (rows,). Both must have been asked for log_probs."""
        if self.log_probs is None or circuit.log_probs is None:
            raise ValueError("a divergence is of two readings that were asked for the whole distribution")
        by_row = (self.log_probs.exp() * (self.log_probs - circuit.log_probs)).sum(-1)
        divergences: Floats = by_row.double().clamp_min(0).numpy()
        return divergences


class TaskReader:
    """Reads the same rows of a task again and again, with one circuit after the other.

    Args:
        settings: What the universe is: granularity, modules, layers.
        tokens: Of a batch, padding included; the corrupted prompts that go along with `counterfactual` come on top.
    """

    def __init__(self, loaded: LoadedModel, rows: Sequence[TaskRow], settings: Settings, tokens: int = 4096) -> None:
        self.loaded, self.rows, self.tokens = loaded, tuple(rows), tokens
        self.places = tuple(find_scored_modules(loaded, settings))

    @property
    def everything(self) -> Kept:
        """Flags that keep the whole model."""
        return {place.name: torch.ones(place.shape, dtype=torch.bool) for place in self.places}

    @property
    def nothing(self) -> Kept:
        """Flags that keep none of the universe."""
        return {place.name: torch.zeros(place.shape, dtype=torch.bool) for place in self.places}

    def read(self, kept: Kept | None = None, how: Ablation = ZERO, *, whole: bool = False) -> TaskAnswers:
        """The answers of a circuit alone; of the model as it is where `kept` is None.

        Args:
            kept: Flags of what is kept, by score name; None for the model as it is.
            how: What replaces what is not kept.
            whole: Whether the distribution of the next token is returned too.
        """
        differences = np.empty(len(self.rows))
        row_log_probs: list[Tensor | None] = [None] * len(self.rows)
        head = self.loaded.model.get_output_embeddings()
        twice = kept is not None and how.kind == "counterfactual"
        for places, batch in batches([row.clean for row in self.rows], self.tokens, self.loaded.device):
            batch_rows = [self.rows[place] for place in places]
            if twice:
                both = [row.clean for row in batch_rows] + [row.corrupted for row in batch_rows]
                batch = Batch.of(both, self.loaded.device)
            count = len(batch.lengths)
            cut = circuit_only(self.loaded, self.everything if kept is None else kept, how, self.places, count)
            with torch.no_grad(), cut:
                hidden = self.loaded.decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
            last = hidden[torch.arange(len(batch_rows)), batch.lengths[: len(batch_rows)] - 1]
            with torch.no_grad():
                logits = head(last).float()
            answers = torch.tensor([[row.correct, row.wrong] for row in batch_rows], device=logits.device)
            correct, wrong = logits.gather(1, answers).double().cpu().unbind(1)
            differences[places] = (correct - wrong).numpy()
            if whole:
                for place, each in zip(places, logits.log_softmax(-1).cpu(), strict=True):
                    row_log_probs[place] = each
        log_probs = torch.stack([each for each in row_log_probs if each is not None]) if whole else None
        return TaskAnswers(differences, log_probs)
