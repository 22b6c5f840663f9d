"""The manual: reference pages say what the code says, links lead somewhere, every page is in the navigation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from docs.generate import PAGES, command_line, http, pages, stale
from docs.generate.markdown import prose
from docs.generate.site import BrokenLinkError, assemble
from service.api import access
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def reference(name: str) -> str:
    return (PAGES / name).read_text()


def test_the_reference_pages_are_what_the_code_says():
    assert stale() == [], "run: make reference"


def test_a_page_that_was_changed_by_hand_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("docs.generate.PAGES", tmp_path)
    for name, text in pages().items():
        (tmp_path / name).write_text(text)
    (tmp_path / "metrics.md").write_text("nothing")
    (tmp_path / "cli.md").unlink()
    assert stale() == ["cli.md", "metrics.md"]


def test_every_command_and_every_option_is_documented():
    text = reference("cli.md")
    for name, command in command_line.commands().items():
        section = re.search(rf"^## excise {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, name
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("--") and option != "--help":
                    assert f"`{option}`" in section[1], f"excise {name} {option}"


def test_every_setting_is_documented_with_its_option():
    text = reference("settings.md")
    for name in Settings.model_fields:
        assert f"`EXCISE_{name.upper()}`" in text, name
    options = {option for each in command_line.commands()["serve"].params for option in each.opts}
    for option in options - {"--model", "--mask", "--help"}:
        assert f"`{option}`" in text, option


def test_every_open_route_is_documented_with_who_may_call_it():
    text = reference("http.md")
    for path, methods in access.ROUTES.items():
        for method, role in methods.items():
            if method != "HEAD" and not path.endswith("/"):
                assert re.search(rf"\| `{method} {re.escape(path)}`[^|]*\| {role.value} \|", text), (method, path)
    for path, item in http.described()["paths"].items():
        for method in item:
            assert f"### {method.upper()} {path}\n" in text, (method, path)


def test_a_docstring_becomes_paragraphs_and_lists():
    docstring = """What it does.

    Args:
        count: how many,
            in all.
        low, high: limits.

    Returns:
        A ``mask``.
    """
    arguments = "- `count`: how many, in all.\n- `low`, `high`: limits."
    markdown = f"What it does.\n\n\n**Args**\n\n{arguments}\n\n\n**Returns**\n\n- A `mask`."
    assert prose(docstring) == markdown


def test_what_the_python_page_names_is_public():
    from docs.generate import python

    for module, names in python.PUBLIC.items():
        for name in names:
            assert f"### {module}.{name}\n" in reference("python.md")


def test_every_link_leads_somewhere_and_every_page_is_in_the_navigation(tmp_path):
    written = {str(page.relative_to(tmp_path / "manual")) for page in assemble(tmp_path / "manual")}
    listed = set(navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert listed <= written, "named in the navigation, and not there"
    assert {page for page in written - listed if not page.startswith("repository/")} == set(), "in no navigation"


def navigation(entries: list[dict[str, object]]) -> list[str]:
    page_paths: list[str] = []
    for entry in entries:
        for value in entry.values():
            page_paths += [value] if isinstance(value, str) else navigation(value)  # type: ignore[arg-type]
    return page_paths


def test_a_broken_link_is_told_with_its_page(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[a](b.md) [c](../code.py) [d](#d) [e](https://example.com)\n")
    (tmp_path / "code.py").write_text("")
    with pytest.raises(BrokenLinkError, match=r"docs/index\.md: b\.md$"):
        assemble(tmp_path / "manual", tmp_path)


def test_what_lies_outside_the_manual_is_copied_and_a_link_to_code_becomes_its_label(tmp_path):
    (tmp_path / "docs" / "how").mkdir(parents=True)
    (tmp_path / "docs" / "picture.png").write_bytes(b"png")
    page = "[format](../../masks/FORMAT.md#limits), [`code`](../../code.py)\n\n    [no](link.md)\n"
    (tmp_path / "docs" / "how" / "page.md").write_text(page)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "FORMAT.md").write_text("![p](../docs/picture.png) [back](../docs/how/page.md)\n")
    (tmp_path / "code.py").write_text("")
    out = tmp_path / "manual"
    assemble(out, tmp_path)
    expected = "[format](../repository/masks/FORMAT.md#limits), `code`\n\n    [no](link.md)\n"
    assert (out / "how" / "page.md").read_text() == expected
    copied = (out / "repository" / "masks" / "FORMAT.md").read_text()
    assert copied == "![p](../../picture.png) [back](../../how/page.md)\n"
    assert (out / "picture.png").read_bytes() == b"png"


def test_nothing_is_fetched_from_others_when_a_page_is_read():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False
    assert not {"extra_css", "extra_javascript", "repo_url", "plugins"} & settings.keys()


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 120
    for target in re.findall(r"\]\(([^)#\s]+)", README):
        assert re.match("[a-z]+:", target) or (ROOT / target).exists(), target
