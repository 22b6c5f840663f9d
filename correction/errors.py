"""What can go wrong in a correction.

    CorrectionError
    ├── ModelError                 a model that cannot be loaded
    │   └── ArchitectureError      a model whose architecture has no adapter
    ├── ReferenceSetError          a reference set that cannot be read or used
    ├── CriterionError             a criterion or setting that does not exist, or cannot score what was asked
    ├── SelectionError             a budget that does not fit the scores
    ├── JournalError               a journal that cannot be written, or is of another run
    ├── CompressionError           a compression that cannot be made of what was given
    └── EvaluationError            a measurement that cannot be made

A mask that does not fit a model raises the errors of `masks`.
"""


class CorrectionError(ValueError):
    """Base of every error that this package raises."""


class ModelError(CorrectionError):
    """A model that cannot be loaded: no such folder or repository, or no tokenizer."""


class ArchitectureError(ModelError):
    """A model whose architecture has no adapter here."""


class ReferenceSetError(CorrectionError):
    """A reference set that is empty, unreadable, too long for the model, or not apart from another one."""


class CriterionError(CorrectionError):
    """A criterion, granularity, output seed or sign that does not exist or do not go together."""


class SelectionError(CorrectionError):
    """A budget larger than the model, or scores that rank nothing."""


class JournalError(CorrectionError):
    """A journal of a run that cannot be written, or is damaged or of another run."""


class EvaluationError(CorrectionError):
    """A measurement that cannot be made from what was given."""


class CompressionError(CorrectionError):
    """A method, budget or calibration that does not exist or do not go together, or a Hessian that has no inverse."""
