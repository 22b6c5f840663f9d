"""Selection: contrast, ranking, and the components with the smallest scores."""
