"""What was measured of a mask before it was served, on prompts and texts that were held out when it was made."""

from __future__ import annotations

from masks import harm
from service.experiments.report.report_document import Offline, Share, estimate


def offline(measured: object) -> Offline:
    """Of a mask's `meta.measured`. It comes from outside: what has another shape is null."""
    found = harm.figures(measured)
    rise = found.perplexity
    return {
        "perplexity": estimate(rise.value, (rise.low, rise.high)) if rise else estimate(None, None),
        "behaviour": _share(found.behaviour),
        "toxicity": _share(found.toxic),
        "repetition": _share(found.repetitive),
    }


def _share(change: harm.Change) -> Share:
    return {"before": change.before, "after": change.after}
