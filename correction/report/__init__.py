"""Reports: variants side by side, the pictures of a sweep, and a page that holds them."""

from correction.report.card import card
from correction.report.curves import curves
from correction.report.details import layers, scatter
from correction.report.page import Example, Picture, Table, page
from correction.report.sweeps import write_csv
from correction.report.variants import Row, picture, row, table

__all__ = [
    "Example",
    "Picture",
    "Row",
    "Table",
    "card",
    "curves",
    "layers",
    "page",
    "picture",
    "row",
    "scatter",
    "table",
    "write_csv",
]
