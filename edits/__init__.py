"""A mask as edits to a model's weights: zeros in a checkpoint, or exact low-rank factors beside it."""
