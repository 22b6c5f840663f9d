"""What became of an experiment's responses, as sums: gathered by each replica, stored, added up to be read."""
