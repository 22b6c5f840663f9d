import ast
import sys
from pathlib import Path

import masks

FOLDER = Path(masks.__file__).parent


def test_masks_needs_only_numpy_and_safetensors() -> None:
    packages = set()
    for path in set(FOLDER.glob("*.py")) - {FOLDER / "torchfile.py"}:  # imports torch where it is called
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                packages |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                packages.add((node.module or "").split(".")[0])
    assert packages - set(sys.stdlib_module_names) == {"masks", "numpy", "safetensors"}


def test_nothing_checks_input_by_assert() -> None:
    for path in FOLDER.glob("*.py"):
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text()))), path.name
