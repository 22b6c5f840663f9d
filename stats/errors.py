"""What can go wrong in a statistic."""


class StatisticsError(ValueError):
    """A statistic of no items, of items that do not pair up, or of one kind where two are needed."""
