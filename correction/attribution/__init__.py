"""Attribution: a reference set and a criterion → the relevance of every component."""
