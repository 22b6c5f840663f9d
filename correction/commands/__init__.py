"""The commands of correction. Heavy imports wait until a command runs: `excise --help` must not wait for torch."""

from correction.commands.circuit import circuit
from correction.commands.compress import compress
from correction.commands.correct import correct
from correction.commands.evaluate import evaluate
from correction.commands.improve import improve
from correction.commands.references import references
from correction.commands.sweep import sweep

__all__ = ["circuit", "compress", "correct", "evaluate", "improve", "references", "sweep"]
