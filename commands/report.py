"""`excise report`: the report of an experiment, asked of a running server. Heavy imports wait until it runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import quote

import typer

from service.experiments.report.report_document import FORMAT, Report

if TYPE_CHECKING:
    import httpx

SUFFIXES = (".json", ".html", ".png")


class ReportError(RuntimeError):
    """No report could be had or written; the message says why and what to do."""


def report(
    name: Annotated[str, typer.Argument(help="Name of the experiment.")],
    url: Annotated[str, typer.Option(help="Address of the server.")] = "http://127.0.0.1:8000",
    key: Annotated[
        str, typer.Option(help="Key for reading; of several, comma-separated, the first.", envvar="EXCISE_API_KEYS")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .html (a page), .png (a picture) or .json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the document as JSON and nothing else.")] = False,
) -> None:
    """Show what an experiment has found so far, and what may be concluded. Look as often as you like."""
    if output is not None:
        _check(output)
    document = fetch(url, name, key.partition(",")[0].strip())
    if output is not None:
        try:
            output.write_bytes(rendered(document, output.suffix))
        except OSError as error:
            raise ReportError(f"-o {output} cannot be written: {error.strerror}") from None
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    from rich.console import Console

    from service.experiments.report.number_format import warnings
    from service.experiments.report.terminal_table import table

    console = Console(highlight=False, markup=False)
    if output is None:
        console.print(table(document))
    else:
        console.print(f"{output}: {document['experiment']}: {document['headline']}", soft_wrap=True)
        for warning in warnings(document):
            console.print(f"⚠ {warning}", style="bold red", soft_wrap=True)


def fetch(url: str, name: str, key: str = "") -> Report:
    """Ask the server for the report of an experiment.

    Args:
        url: Address of the server.
        name: Of the experiment.
        key: Key for reading; empty for none.

    Raises:
        ReportError: A key or address that cannot be used, no answer, or an answer that is no report.
    """
    if not re.fullmatch("[!-~]*", key):
        raise ReportError("the key holds a space or a character other than ASCII, which no header can carry")
    if "@" in url:
        raise ReportError("--url holds a user or password; give the key with --key or EXCISE_API_KEYS")
    address = f"{url.rstrip('/')}/experiments/{quote(name, safe='')}/report"
    answer = _get(url, address, key)
    _check_status(answer, url, address)
    return _parsed(answer, url, address)


def _get(url: str, address: str, key: str) -> httpx.Response:
    import httpx

    try:
        return httpx.get(address, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=60)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ReportError(f"--url {url} is no address of a server: {error}") from None
    except httpx.TimeoutException:
        raise ReportError(f"the server at {url} did not answer within 60 seconds; look at its /ready") from None
    except httpx.HTTPError as error:
        raise ReportError(f"no server answers at {url} ({error}); start one with excise serve, or give --url") from None


def _check_status(answer: httpx.Response, url: str, address: str) -> None:
    """Raise a `ReportError` for any status but 200."""
    if answer.status_code in (401, 403):
        raise ReportError(
            f"the server at {url} wants a key that may read: give --key or EXCISE_API_KEYS ({_reason(answer)})"
        )
    if answer.status_code == 404:
        raise ReportError(f"{_reason(answer)} (asked at {address}; GET {url}/experiments lists the experiments)")
    if answer.status_code != 200:
        raise ReportError(f"the server at {url} answered {answer.status_code}: {_reason(answer)}")


def _parsed(answer: httpx.Response, url: str, address: str) -> Report:
    """The report in the body of an answer with status 200."""
    try:
        document: Any = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("object") != "experiment.report":
        raise ReportError(f"what answers at {url} is no Excise server: {address} is not a report")
    if document.get("format") != FORMAT:
        raise ReportError(
            f"the server writes reports of format {document.get('format')!r}, this command reads {FORMAT}: use "
            "the excise of the server's version"
        )
    return cast(Report, document)


def rendered(document: Report, suffix: str) -> bytes:
    """The document as `.json`, `.html` or `.png`."""
    if suffix == ".png":
        from service.experiments.report.figure import png

        return png(document)
    if suffix == ".html":
        from service.experiments.report.experiment_page import html

        return html(document).encode()
    return (json.dumps(document, indent=2) + "\n").encode()


def _check(output: Path) -> None:
    """Before the server is asked."""
    if output.suffix not in SUFFIXES:
        raise ReportError(f"-o {output}: the name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if not output.parent.is_dir():
        raise ReportError(f"-o {output}: there is no folder {output.parent}")


def _reason(answer: Any) -> str:
    """The message of an error, in OpenAI's shape; else the status alone."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
