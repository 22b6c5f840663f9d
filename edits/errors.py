"""Every error that this package raises on purpose.

EditError (a RuntimeError)
├── MaskNotAppliedError    part of a mask meets no tensor of the checkpoint, or one of another shape
├── NotRepresentableError  an adapter, or the checkpoint's dtype, cannot hold the mask exactly
└── NotWrittenError        the output folder is in use or cannot be written
"""


class EditError(RuntimeError):
    """Base of every error of this package."""


class MaskNotAppliedError(EditError):
    """Part of a mask met no tensor of the checkpoint, so the model would have been left uncorrected there."""


class NotRepresentableError(EditError):
    """An adapter, or the checkpoint's dtype, cannot hold the mask exactly; the message says which part and what can."""


class NotWrittenError(EditError):
    """The output folder is in use or cannot be written; nothing is left behind."""
