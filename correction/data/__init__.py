"""Data: reference sets, detectors of a behaviour, tokens and generated responses."""
