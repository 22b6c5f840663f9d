"""The report of an experiment: what was seen, what may be concluded, and pictures of it.

`decision.report` makes the document (`report_document.Report`); `figure`, `experiment_page` and
`terminal_table` draw it, from the JSON alone.
"""
