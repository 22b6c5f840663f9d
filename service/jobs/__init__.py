"""Jobs: work that other processes do for this server, step by step, and what comes of it."""
