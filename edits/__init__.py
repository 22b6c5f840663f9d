"""A mask as edits to a model's weights: gates multiplied into a checkpoint, or exact adapters beside it."""
