"""HTTP: our routes beside vLLM's, and the gateway in front of both. The only place that imports fastapi."""
