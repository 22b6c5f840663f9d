"""The report in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from service.experiments.experiment import MEANS, RATES
from service.experiments.report import table_cells
from service.experiments.report.number_format import NAMES, evidence, warnings
from service.experiments.report.report_document import Comparison, Report, VariantFigures

_COLOURS = {"better": "bold green", "worse": "bold red", "guardrail crossed": "bold red", "broken split": "bold red"}


def table(report: Report) -> Group:
    """The decision, a table of all variants, and notes. Names are shown as they are: no markup is read in them."""
    parts: list[Any] = [
        Text(f"{report['experiment']} ({report['status']}): {report['headline']}", _colour(report["decision"])),
        Text(report["why"]),
        *(Text(f"⚠ {warning}", "bold red") for warning in warnings(report)),
        Text(report["peeking"], "dim"),
        _variants(report),
    ]
    parts += [Text(f"• {'CROSSED: ' if each['crossed'] else ''}{each['why']}") for each in report["guardrails"]]
    parts += [Text(f"• {note}", "dim") for note in report["notes"]]
    return Group(*parts)


def _variants(report: Report) -> Table:
    shown = Table()
    shown.add_column("")
    for variant in report["variants"]:
        shown.add_column(Text(variant["name"]), justify="right")
    against = {each["variant"]: each for each in report["comparisons"]}
    for name, row in _rows(report, against):
        shown.add_row(name, *(Text("\n".join(each for each in cell if each)) for cell in row))
    decisions = [against[v["name"]]["decision"] if v["name"] in against else "control" for v in report["variants"]]
    shown.add_section()
    shown.add_row("decision", *(Text(decision, _colour(decision)) for decision in decisions))
    return shown


def _rows(report: Report, against: dict[str, Comparison]) -> Iterator[tuple[str, list[table_cells.Cell]]]:
    variants, metric = report["variants"], report["metric"]

    def counted(variant: VariantFigures) -> table_cells.Cell:
        return (f"{variant['units']:,}",)

    def gap(variant: VariantFigures) -> table_cells.Cell:
        if variant["name"] not in against:
            return ("",)
        if metric == "feedback":
            return table_cells.scale_gap(against[variant["name"]], metric)
        difference = against[variant["name"]]["differences"][metric]
        return (*table_cells.difference(difference), f"e-value {evidence(difference['e_value'])}")

    yield "mask", [(variant["mask"],) for variant in variants]
    yield "units counted", [counted(variant) for variant in variants]
    for rate in RATES:
        yield NAMES[rate], [table_cells.unit_rate(variant, rate) for variant in variants]
    for what in MEANS:
        if any(variant[what]["value"] is not None for variant in variants):
            yield table_cells.SCALES[what], [table_cells.scale(variant, what) for variant in variants]
    yield "cut off by the token limit", [table_cells.cut_off(variant) for variant in variants]
    yield "mean length, tokens", [table_cells.length(variant) for variant in variants]
    yield "mean latency", [table_cells.latency(variant) for variant in variants]
    yield "95th percentile of latency", [table_cells.p95(variant) for variant in variants]
    yield from table_cells.offline(variants)
    unit = "" if metric == "feedback" else ", points"
    yield f"{NAMES[metric]}{unit} more than {report['control']}", [gap(variant) for variant in variants]


def _colour(decision: str) -> str:
    return _COLOURS.get(decision, "bold")
