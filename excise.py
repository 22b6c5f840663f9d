"""The command line: thin, imports lazily (`excise --help` must not wait for torch)."""

from __future__ import annotations

import sys

import typer

from commands import (
    circuit,
    compress,
    correct,
    demo,
    evaluate,
    export,
    improve,
    inspect,
    references,
    report,
    serve,
    sweep,
    terminal,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def excise() -> None:
    """Find the few parts of a language model that carry an unwanted behaviour, cut them, serve the corrected model."""


for command in (
    demo.demo,
    references.references,
    correct.correct,
    sweep.sweep,
    compress.compress,
    evaluate.evaluate,
    circuit.circuit,
    improve.improve,
    report.report,
    inspect.inspect,
    export.export,
):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve.serve)


_OURS = ("masks", "behaviours", "edits", "stats", "correction", "service", "commands", "demo")


def main() -> None:
    """Run the command line. An error of ours is one line that says what to mend; any other is a traceback."""
    try:
        app(prog_name="excise")
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _OURS:
            raise
        terminal.err.print("excise:", style="bold red", end=" ")
        terminal.err.print(str(error), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
