"""Search: the mask that leaves least of a behaviour within a budget of quality."""
