"""The reference is what the code says, and so are the names that other pages print by hand."""

from __future__ import annotations

import re
from pathlib import Path

import loom.errors
import loom.testing
import reference_page
from loom import Agent, Files, Web
from loom.events import AnyEvent
from loom.kernel.hooks import NAMES


def test_the_reference_page_is_what_the_code_says() -> None:
    page = reference_page.PAGE.read_text(encoding="utf-8")
    assert page == reference_page.render(), "write it anew: make format, or python tests/reference_page.py"


def test_every_name_is_on_the_page() -> None:
    page = reference_page.render()
    for name in NAMES:
        assert f"| `{name}` |" in page, name
    for kind in AnyEvent.__args__:
        assert f"`{kind.__name__}`" in page


def test_review_guide_the_reference_has_every_error_and_every_name_for_tests() -> None:
    page = reference_page.render()
    errors = {
        name
        for name, kind in vars(loom.errors).items()
        if isinstance(kind, type) and issubclass(kind, loom.errors.LoomError)
    }
    assert {name for name in errors if not re.search(rf"^\W*{name}\b", page, re.MULTILINE)} == set()
    assert {name for name in loom.testing.__all__ if f"| `{name}(" not in page} == set()


def test_review_guide_the_reference_holds_nothing_of_this_machine() -> None:
    page = reference_page.render()
    assert "environ({" not in page
    assert not re.search(r" at 0x[0-9a-f]+", page)
    assert str(Path.home()) not in page


def test_review_guide_the_page_names_the_arguments_of_the_built_in_tools() -> None:
    page = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
    agent = Agent(model="offline", capabilities=[Files(), Web.enabled()])
    for spec in agent.engine.tools.specs():
        (row,) = re.findall(rf"^\| `{spec.name}`.*$", page, re.MULTILINE)
        required, _, optional = row.partition("[")
        needed = set(spec.parameters.get("required", []))
        assert set(re.findall(r"`(\w+)`", required)) >= needed, row
        assert set(re.findall(r"`(\w+)`", optional)) == set(spec.parameters["properties"]) - needed, row
