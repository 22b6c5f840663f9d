"""Sweep: what each configuration does to behaviour and perplexity, the more components are cut."""
