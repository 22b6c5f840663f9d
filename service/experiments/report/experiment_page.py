"""The report as one HTML page that loads nothing: read on a phone or printed, light or dark, without JavaScript."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from service.experiments.experiment import MEANS, RATES, Mean, Rate
from service.experiments.report import chart, figure, table_cells
from service.experiments.report.number_format import (
    NAMES,
    NOTHING,
    chance,
    evidence,
    moment,
    percent,
    percent_points,
    warnings,
)
from service.experiments.report.report_document import Comparison, Report, VariantFigures
from service.experiments.report.table_cells import Cell

Row = tuple[str, list[Cell]]
"""A name, and a cell for each column."""
_STYLES = {"better": "better", "worse": "worse", "guardrail crossed": "broken", "broken split": "broken"}
"""Decision → class of the style sheet."""


def html(report: Report) -> str:
    """The whole page. The template escapes every text."""
    variants = report["variants"]
    crossed = [("Crossed: " if bound["crossed"] else "") + bound["why"] for bound in report["guardrails"]]
    return (
        _templates()
        .get_template("experiment.html")
        .render(
            report=report,
            warnings=warnings(report),
            rates=_rates_picture(report),
            comparisons=[_comparison(report, each) for each in report["comparisons"]],
            names=[each["name"] for each in variants],
            offline=list(table_cells.offline(variants)),
            course=_course_picture(report),
            counts=list(_counts(variants)),
            guardrails=crossed,
        )
    )


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("service.experiments.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "capital": lambda text: text[:1].upper() + text[1:],
        "evidence": evidence,
        "moment": moment,
        "percent_points": percent_points,
        "style": lambda decision: _STYLES.get(decision, "undecided"),
    }
    return templates


def _rates_picture(report: Report) -> dict[str, str]:
    alt = f"Rates of each variant and differences to {report['control']}, with intervals; the tables have the figures."
    return _picture(figure.svg(report), alt)


def _course_picture(report: Report) -> dict[str, str] | None:
    """The chart over time, where anything is kept of it."""
    if not report["course"]:
        return None
    alt = f"{table_cells.whole(report['metric'])} of each variant over time, over every response."
    return _picture(chart.svg(report), alt)


def _picture(svg: bytes, alt: str) -> dict[str, str]:
    """In base64 for a light and for a dark ground, with the text that stands in for it."""
    return {"light": b64encode(svg).decode(), "dark": b64encode(figure.darkened(svg)).decode(), "alt": alt}


def _comparison(report: Report, comparison: Comparison) -> dict[str, Any]:
    """The section of one variant: its figures, the control's, and their differences."""
    variants = {variant["name"]: variant for variant in report["variants"]}
    variant, control = variants[comparison["variant"]], variants[report["control"]]
    of_differences, of_others = (f"{100 * (1 - alpha):.4g}%" for alpha in (report["comparison_alpha"], report["alpha"]))
    return {
        "variant": variant,
        "decision": comparison["decision"],
        "why": "" if comparison["why"] in report["why"] else comparison["why"],  # the head of the page has it
        "detectable": comparison["minimum_detectable"],
        "rows": list(_comparison_rows(report, comparison, variant, control)),
        "caption": f"Over units, one response each. Intervals: {of_differences} of differences (points), "
        f"{of_others} of the others.",
    }


def _comparison_rows(
    report: Report, comparison: Comparison, variant: VariantFigures, control: VariantFigures
) -> Iterator[Row]:
    def decides(metric: Rate | Mean) -> str:
        return " (decides)" if metric == report["metric"] else ""

    for rate in RATES:
        cells = [table_cells.unit_rate(each, rate) for each in (variant, control)]
        yield NAMES[rate] + decides(rate), [*cells, _difference(comparison, rate)]
    for what in MEANS:
        if variant[what]["value"] is not None or control[what]["value"] is not None:
            cells = [table_cells.scale(each, what) for each in (variant, control)]
            yield table_cells.SCALES[what] + decides(what), [*cells, table_cells.scale_gap(comparison, what)]
    lengths, latencies, slowest = (
        [cell(each) for each in (variant, control)]
        for cell in (table_cells.length, table_cells.latency, table_cells.p95)
    )
    yield "mean length, tokens", [*lengths, table_cells.length_gap(comparison)]
    yield "mean latency", [*latencies, table_cells.latency_gap(comparison)]
    yield "95th percentile of latency", [*slowest, (NOTHING,)]


def _difference(comparison: Comparison, rate: Rate) -> Cell:
    """A difference of rates with its evidence."""
    difference = comparison["differences"][rate]
    cell = table_cells.difference(difference)
    if difference["e_value"] is None:
        return cell
    return *cell, f"e = {evidence(difference['e_value'])}", f"p = {chance(difference['p_value'])}"


def _counts(variants: list[VariantFigures]) -> Iterator[Row]:
    """Counts and rates over every response, a column for each variant."""
    yield "mask", [(each["mask"],) for each in variants]
    yield "share of units", [(_share(each),) for each in variants]
    yield "units counted", [(f"{each['units']:,}",) for each in variants]
    yield "responses", [(f"{each['responses']:,}",) for each in variants]
    yield "cut off by the token limit", [table_cells.cut_off(each) for each in variants]
    yield "without a user", [(f"{each['anonymous']:,}",) for each in variants]
    yield "scored", [(f"{each['scored']:,}",) for each in variants]
    yield "of known coherence", [(f"{each['judged']:,}",) for each in variants]
    yield "with feedback", [(f"{each['rated']:,}",) for each in variants]
    for rate in RATES:
        yield NAMES[rate], [table_cells.every_rate(each, rate) for each in variants]


def _share(variant: VariantFigures) -> str:
    return percent(variant["share"]) + (" copied" if variant["role"] == "mirrored" else "")
