"""Options that go with a model from the command line to the work: frozen, and defined once."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from correction.data.detectors import Detector
from correction.data.references import ReferenceSet


@dataclass(frozen=True)
class _Options:
    def as_arguments(self) -> dict[str, Any]:
        """As keyword arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def replace(self, **changed: Any) -> Self:
        """The same with some of them changed."""
        return replace(self, **changed)


@dataclass(frozen=True)
class GenerationOptions(_Options):
    """How prompts are answered: see `behaviour_set.answer`."""

    raw: bool = False
    max_new_tokens: int = 50
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0
    tokens: int = 4096


@dataclass(frozen=True)
class AttributionOptions(_Options):
    """How relevance is attributed: see `attribution.attribute`."""

    raw: bool = False
    shows: Detector | None = None
    negatives: ReferenceSet | None = None
    max_length: int | None = None
    tokens: int = 4096
    checkpointing: bool = False
    scores_in: Path | None = None
    resume: Path | None = None
    state: str = ""
