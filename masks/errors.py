"""Every error that this package raises on purpose.

    MaskError (a ValueError)
    ├── InvalidMask            a mask put together in Python breaks a rule of the format
    ├── CorruptMask            bytes that are not a well-formed mask file
    ├── MaskTooLarge           a size or count is over a limit of the format
    ├── UnsupportedVersion     a mask file of a newer (or impossible) format version
    ├── FingerprintMismatch    the mask was made for another base model
    ├── GeometryMismatch       the mask cuts components that the model does not have
    │   └── UnknownParameter   a parameter name that the model does not have
    └── CheckpointError        a model folder that cannot be read

A message says what is wrong, where (tensor, key or byte), and how to mend it. A missing or unreadable path stays the
`OSError` that the operating system gave.
"""


class MaskError(ValueError):
    """Base of every error of this package."""


class InvalidMask(MaskError):  # noqa: N818 (the tree reads as the state of the mask)
    """A mask, or a part of one, put together in Python breaks a rule of the format."""


class CorruptMask(MaskError):  # noqa: N818
    """The bytes are not a well-formed mask file."""


class MaskTooLarge(MaskError):  # noqa: N818
    """A size or a count is over its limit (`masks.limits`)."""


class UnsupportedVersion(MaskError):  # noqa: N818
    """The mask file has a format version that this reader does not know."""


class FingerprintMismatch(MaskError):  # noqa: N818
    """The mask was made for another base model; the message holds both fingerprints."""


class GeometryMismatch(MaskError):  # noqa: N818
    """The mask and the model disagree on layers, neurons, heads or parameter shapes."""


class UnknownParameter(GeometryMismatch):
    """A parameter name that the model or the mask does not have; the message lists names close to it."""


class CheckpointError(MaskError):
    """A model folder that cannot be read: not a folder, no config.json, no weights, or damaged ones."""
