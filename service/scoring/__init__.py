"""Scoring off the request path: a bounded queue, worker processes, and a place for what is to be reviewed."""
