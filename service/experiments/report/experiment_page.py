"""The report as one HTML page that loads nothing: read on a phone or printed, light or dark, without JavaScript."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from service.experiments.experiment import MEANS, RATES
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
from service.experiments.report.style_sheet import STYLE


def html(report: Report) -> str:
    """The whole page. Every word of it that comes from elsewhere is escaped."""
    parts = [
        _head(report),
        *(_comparison(report, comparison) for comparison in report["comparisons"]),
        _offline(report),
        _course(report),
        _counts(report),
        _split(report),
        _guardrails(report),
        _list("Good to know", report["notes"]),
        f"<footer>Made {moment(report['made_at'])}; begun {moment(report['created_at'])}.</footer>",
    ]
    title = escape(f"{report['experiment']}: {report['headline']}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    status = report["status"] + (f": {report['reason']}" if report["reason"] else "")
    if report["winner"]:
        status += f" (winner: {report['winner']})"
    told = f"Rates of each variant and differences to {report['control']}, with intervals; the tables have the figures."
    return (
        f"<header>\n<p>Experiment <strong>{escape(report['experiment'])}</strong>, {escape(status)}</p>\n"
        f"<h1 class={_class(report['decision'])}>{escape(_capital(report['headline']))}</h1>\n"
        f"<p class=why>{escape(report['why'])}</p>\n{_warnings(report)}"
        f"<p class=quiet>{escape(report['peeking'])}</p>\n</header>\n" + _picture(figure.svg(report), told)
    )


def _comparison(report: Report, comparison: Comparison) -> str:
    variants = {variant["name"]: variant for variant in report["variants"]}
    own, control = variants[comparison["variant"]], variants[report["control"]]
    rows = []
    for rate in RATES:
        found = comparison["differences"][rate]
        gap = table_cells.difference(found)
        if found["e_value"] is not None:
            gap = (*gap, f"e = {evidence(found['e_value'])}", f"p = {chance(found['p_value'])}")
        name = NAMES[rate] + (" (decides)" if rate == report["metric"] else "")
        rows.append(_row(name, [table_cells.unit_rate(own, rate), table_cells.unit_rate(control, rate), gap]))
    for what in MEANS:
        if own[what]["value"] is not None or control[what]["value"] is not None:
            name = table_cells.SCALES[what] + (" (decides)" if what == report["metric"] else "")
            row = [
                table_cells.scale(own, what),
                table_cells.scale(control, what),
                table_cells.scale_gap(comparison, what),
            ]
            rows.append(_row(name, row))
    rows.append(
        _row(
            "mean length, tokens",
            [table_cells.length(own), table_cells.length(control), table_cells.length_gap(comparison)],
        )
    )
    rows.append(
        _row(
            "mean latency",
            [table_cells.latency(own), table_cells.latency(control), table_cells.latency_gap(comparison)],
        )
    )
    rows.append(_row("95th percentile of latency", [table_cells.p95(own), table_cells.p95(control), (NOTHING,)]))
    level = f"{100 * (1 - report['comparison_alpha']):.4g}%"
    detail = ""
    if comparison["minimum_detectable"] is not None:
        detail = f"Smallest difference that would show by now: {percent_points(comparison['minimum_detectable'])}."
    why = "" if comparison["why"] in report["why"] else comparison["why"]  # the head has said it
    heads = (escape(own["name"]), escape(control["name"]), "difference")
    others = f"{100 * (1 - report['alpha']):.4g}%"
    caption = f"Over units, one response each. Intervals: {level} of differences (points), {others} of the others."
    return (
        f"<section>\n<h2>{escape(own['name'])} <small>{escape(own['mask'])}"
        f"{', mirrored' if own['role'] == 'mirrored' else ''}</small> "
        f"<span class={_class(comparison['decision'])}>{escape(comparison['decision'])}</span></h2>\n"
        f"<p>{escape(why)} {detail}</p>\n{_table(heads, rows, caption)}\n</section>"
    )


def _warnings(report: Report) -> str:
    items = "\n".join(f"<li>{escape(told)}</li>" for told in warnings(report))
    return f'<ul class="warned" aria-label="Warnings">\n{items}\n</ul>\n' if items else ""


def _offline(report: Report) -> str:
    """What was measured of the masks before they were served."""
    variants = report["variants"]
    rows = [_row(name, row) for name, row in table_cells.offline(variants)]
    if not rows:
        return ""
    heads = tuple(escape(each["name"]) for each in variants)
    caption = "From the mask files: on held-out prompts and texts, without → with the mask."
    return f"<section>\n<h2>Measured offline</h2>\n{_table(heads, rows, caption)}\n</section>"


def _course(report: Report) -> str:
    """The chart over time."""
    if not report["course"]:
        return ""
    told = f"{table_cells.whole(report['metric'])} of each variant over time, over every response."
    drawn = _picture(chart.svg(report), told)
    return (
        f"<section>\n<h2>Over time</h2>\n{drawn}\n<p class=quiet>{escape(told)} Only the tests decide.</p>\n</section>"
    )


def _picture(light: bytes, told: str) -> str:
    drawn = light, figure.darkened(light)
    sources = ["data:image/svg+xml;base64," + b64encode(each).decode() for each in drawn]
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{sources[1]}">'
        f'<img src="{sources[0]}" alt="{escape(told)}"></picture>'
    )


def _counts(report: Report) -> str:
    variants = report["variants"]

    def row(name: str, of: list[str]) -> str:
        return _row(name, [(text,) for text in of])

    rows = [
        row("mask", [each["mask"] for each in variants]),
        row("share of units", [_share(each) for each in variants]),
        row("units counted", [f"{each['units']:,}" for each in variants]),
        row("responses", [f"{each['responses']:,}" for each in variants]),
        _row("cut off by the token limit", [table_cells.cut_off(each) for each in variants]),
        row("without a user", [f"{each['anonymous']:,}" for each in variants]),
        row("scored", [f"{each['scored']:,}" for each in variants]),
        row("of known coherence", [f"{each['judged']:,}" for each in variants]),
        row("with feedback", [f"{each['rated']:,}" for each in variants]),
    ]
    rows += [_row(NAMES[rate], [table_cells.every_rate(each, rate) for each in variants]) for rate in RATES]
    heads = tuple(escape(each["name"]) for each in variants)
    return (
        f"<section>\n<h2>Every response</h2>\n{_table(heads, rows, 'Counts and rates over all responses.')}\n</section>"
    )


def _share(variant: VariantFigures) -> str:
    return percent(variant["share"]) + (" copied" if variant["role"] == "mirrored" else "")


def _split(report: Report) -> str:
    split = report["split"]
    told = ", ".join(
        f"{name} {counted:,} (expected {split['expected'][name]:,.0f})" for name, counted in split["counted"].items()
    )
    verdict = "It is broken." if split["broken"] else "It is as designed."
    if split["e_value"] is None:
        verdict = "There is nothing to check yet."
    needed = f"e-value {evidence(split['e_value'])}; {1 / split['alpha']:,.0f} would mean a broken split"
    return f"<section>\n<h2>Split</h2>\n<p>{verdict} Units: {escape(told)}. ({needed}.)</p>\n</section>"


def _guardrails(report: Report) -> str:
    items = [("Crossed: " if bound["crossed"] else "") + bound["why"] for bound in report["guardrails"]]
    return _list("Guardrails", items) if items else ""


def _list(title: str, items: list[str]) -> str:
    body = "\n".join(f"<li>{escape(_capital(item))}</li>" for item in items)
    return f"<section>\n<h2>{title}</h2>\n<ul>\n{body}\n</ul>\n</section>"


def _table(heads: tuple[str, ...], rows: list[str], caption: str) -> str:
    """``heads`` and ``rows`` are escaped. It scrolls by itself, also by keyboard, where it is too wide."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    told = escape(caption)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{told}">\n<table>\n<caption>{told}</caption>\n'
        f"<thead><tr><td></td>{top}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>\n</div>"
    )


def _row(name: str, row: list[tuple[str, ...]]) -> str:
    """Each cell is a figure and, below it, what belongs to it."""
    shown = "".join(
        "<td>" + "".join([escape(cell[0]), *(f"<small>{escape(more)}</small>" for more in cell[1:] if more)]) + "</td>"
        for cell in row
    )
    return f'<tr><th scope="row">{escape(name)}</th>{shown}</tr>'


def _class(decision: str) -> str:
    """A class of the style sheet; quoted by nobody, so it must be one word."""
    known = {"better": "better", "worse": "worse", "guardrail crossed": "broken", "broken split": "broken"}
    return known.get(decision, "undecided")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
