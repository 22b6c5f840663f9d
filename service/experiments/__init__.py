"""Experiments: what one is, how it goes on, what came of it, and its report."""
