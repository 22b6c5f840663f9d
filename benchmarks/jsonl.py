"""Files of results, a JSON object a line: what is there is not measured again."""

import json
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none where there is no file yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(path: Path, row: dict[str, Any]) -> None:
    """Write a row behind the others."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
