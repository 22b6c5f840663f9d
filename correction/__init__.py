"""Correction: find the components of a language model that carry a behaviour, and write them down as a mask.

>>> loaded = models.load("models/llama")
>>> mask = correct(loaded, references.read("insults.jsonl"), references.read("general.jsonl"), name="detox", count=40)
>>> masks.save(mask, "detox.safetensors")
"""
