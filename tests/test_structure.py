"""The shape of the project, held by tests: import directions, sizes, documented commands, metrics and settings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("masks", "behaviours", "edits", "stats", "correction", "service", "commands", "demo")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

MAY_IMPORT = {
    "masks": set(),
    "behaviours": set(),
    "edits": {"masks"},
    "stats": set(),
    "correction": {"masks", "behaviours", "edits", "stats"},
    "service": {"masks", "behaviours", "edits", "stats"},
    "commands": {"masks", "behaviours", "edits", "stats", "correction", "service", "demo"},
    "demo": {"masks", "behaviours", "stats", "correction", "commands"},
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
ONLY_UNDER = {
    "vllm": "service/engine/",
    "uvloop": "service/engine/",
    "fastapi": "service/api/",
    "sqlalchemy": "service/",
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_in_the_allowed_directions(path):
    package = path.relative_to(ROOT).parts[0]
    ours = imported(path) & set(PACKAGES)
    assert ours <= MAY_IMPORT[package] | {package}, (
        f"{package} must not import {ours - MAY_IMPORT[package] - {package}}"
    )
    for library, home in ONLY_UNDER.items():
        if library in imported(path):
            assert str(path.relative_to(ROOT)).startswith(home), f"{library} is imported outside {home}"


def imports() -> dict[str, set[str]]:
    """Module → those of ours that it imports, whether at its head, inside a function or for types alone."""
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    found: dict[str, set[str]] = {}
    for name, path in named.items():
        modules: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                modules |= whole & named.keys() or {node.module or ""}
        found[name] = (modules & named.keys()) - {name}
    return found


def test_no_import_goes_in_a_circle():
    graph = imports()
    assert graph["service.bootstrap"]  # imports were found at all
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports go in a circle: {' → '.join(error.args[1])}")


def test_masks_needs_only_numpy_and_safetensors():
    paths = set((ROOT / "masks").rglob("*.py")) - {ROOT / "masks/torchfile.py"}  # imports torch where it is called
    third_party = {name for path in paths for name in imported(path)}
    assert third_party - set(sys.stdlib_module_names) - {"masks"} <= {"numpy", "safetensors"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_one_idea(path):
    source = path.read_text()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED) and ast.get_docstring(node)]
    docstrings = sum((first := node.body[0]).end_lineno - first.lineno + 1 for node in nodes)
    assert len(source.splitlines()) - docstrings <= 290
    assert not re.search(r"util|helper|common|manager", path.stem)


COMMANDS = (
    "circuit",
    "compress",
    "correct",
    "demo",
    "evaluate",
    "export",
    "improve",
    "inspect",
    "references",
    "report",
    "serve",
    "sweep",
)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_its_help(command):
    arguments = [command, "--help"] if command else ["--help"]
    run = subprocess.run(
        [sys.executable, "-m", "excise", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    if not command:
        assert set(re.findall(r"^[│\s]+([a-z]+) ", run.stdout, re.MULTILINE)) >= set(COMMANDS)


def test_every_metric_is_defined_once_and_documented():
    defined = re.findall(r'"(excise_[a-z_]+)"', (ROOT / "service" / "metrics.py").read_text())
    assert len(defined) == len(set(defined)) == 34
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for name in defined:
        assert f"`{name}`" in reference, name
    for path in MODULES:
        if "service" in path.parts and path.name != "metrics.py":
            assert "prometheus_client" not in imported(path), path


def test_make_targets_are_documented():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    text = (ROOT / "docs" / "how-to" / "install.md").read_text()
    for target in targets[1].split():
        assert f"`make {target}" in text, target


def test_every_package_is_copied_into_both_images():
    copied = re.findall(r"^COPY (?:--chown=\S+ )?(\w+) (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted([(package, package) for package in PACKAGES] * 2)


def test_files_that_are_not_code_are_installed_with_their_package():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {
        path
        for package, globs in declared.items()
        for each in globs
        for path in ROOT.joinpath(*package.split(".")).glob(each)
    }
    templates = {path for package in PACKAGES for path in (ROOT / package).glob("**/templates/*")}
    assert templates and templates <= installed
