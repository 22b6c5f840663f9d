"""The report of an experiment: what was seen, what may be concluded, and pictures of it.

``decision.report`` makes the document (``document.Report``); ``figure``, ``page`` and ``table`` draw it, from the JSON
alone.
"""
