"""The worker of jobs: makes masks from a server's flagged traffic, and measures promoted ones again."""
