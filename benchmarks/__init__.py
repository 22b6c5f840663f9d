"""Benchmarks, run by hand: each prints one JSON line. See RESULTS.md."""
