"""Routing: which mask answers a request."""
