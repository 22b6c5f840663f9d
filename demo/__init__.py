"""The built-in demo model: a small Llama with two planted bad habits, the text it was trained on, and its training."""
