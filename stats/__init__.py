"""Statistics that correction and service share: intervals, the bootstrap, anytime-valid tests. Pure."""
