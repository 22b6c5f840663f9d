"""What runs inside vLLM: the plug-ins, the gates, the loader and the observer. The only place that imports vllm."""
