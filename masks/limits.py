"""The limits of the mask file, format versions 1 and 2 (FORMAT.md holds the same table).

They bound what a reader may be made to allocate by bytes that somebody else wrote. Each lies well above the largest
model known in 2026.
"""

MAX_FILE_BYTES = 2**34
MAX_HEADER_BYTES = 2**24
MAX_DOCUMENT_BYTES = 2**22
MAX_DOCUMENT_DEPTH = 16
MAX_TENSORS = 2**16
MAX_PARAMETER_NAME = 256
MAX_MODEL_ID = 256
MAX_LAYERS = 2**12
MAX_NEURONS = 2**24
MAX_HEADS = 2**14
MAX_HEAD_DIM = 2**14
MAX_HIDDEN = 2**24
MAX_ELEMENTS = 2**34
"""Elements of one parameter: a vocabulary of 2**18 by a hidden size of 2**16."""

DENSITY = 64
"""A weight set with strictly more than 1/DENSITY of its parameter's elements is stored as a bitmask."""

MAX_CHECKPOINT_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit; checkpoints of many experts come near it."""

MAX_CONFIG_BYTES = 2**24
"""For a checkpoint's config.json."""

MAX_PICKLE_BYTES = 2**24
"""The description of the tensors in one PyTorch checkpoint file (a tensor takes about 300 bytes), and likewise the
directory of its zip archive (about 80)."""

MAX_PICKLE_OPCODES = 2**21
"""In that description; a tensor takes about 45, and each allocates at most a small object."""
