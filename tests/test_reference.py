"""The page of hooks, events and settings is what the code says."""

from __future__ import annotations

import reference_page
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
