"""Reports: variants side by side, the pictures of a sweep, and a page that holds them."""

from correction.report.card_table import card
from correction.report.html_page import Example, Picture, Table, page
from correction.report.mask_details import layers, scatter
from correction.report.sweep_curves import curves
from correction.report.sweep_report import write_csv
from correction.report.variant_table import Row, picture, row, table

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
