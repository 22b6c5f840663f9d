"""Compression: half of a model's weights, or two of every four, set to zero, and the model left as good as can be.

`calibration` packs text into windows; `plan` says what is cut and by which method; `walk` takes the windows through the
model block by block; `methods` scores weights, by the criteria and by RIA; `sparsegpt` cuts and mends what is left;
`compress` does all of it; `output` writes a checkpoint or a mask. A method is one entry of `plan.METHODS`.
"""

from correction.compression.calibration import Calibration, calibrate
from correction.compression.compress import Compressed, compress
from correction.compression.plan import METHODS, Plan

__all__ = ["METHODS", "Calibration", "Compressed", "Plan", "calibrate", "compress"]
