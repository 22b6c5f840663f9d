"""The service: vLLM's own OpenAI server, with masks registered over HTTP and chosen per request or at load."""
