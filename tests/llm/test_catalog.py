"""The catalogue of models: what it finds, what it leaves alone, and that its rows make sense."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loom.assembly.vendors import VENDORS
from loom.llm.catalog import ModelInfo, find_model, known_models
from loom.llm.catalog_data import MODELS


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-3-7-sonnet-latest", "claude-3-7-sonnet"),
        ("Claude-Haiku-4-5", "claude-haiku-4-5"),
        ("claude-opus-4-9", None),
        ("claude-opus-4-1-fast", None),
        ("claude", None),
        ("", None),
    ],
)
def test_a_date_makes_no_other_model_and_anything_else_does(name: str, row: str | None) -> None:
    found = find_model("anthropic", name)
    assert (found.name if found else None) == row


def test_a_dated_row_comes_before_the_row_without_a_date() -> None:
    first, later = find_model("openai", "gpt-4o-2024-05-13"), find_model("openai", "gpt-4o-2024-11-20")
    assert first is not None
    assert later is not None
    assert (first.name, first.max_output, first.structured) == ("gpt-4o-2024-05-13", 4_096, "json")
    assert (later.name, later.max_output, later.structured) == ("gpt-4o", 16_384, "native")


def test_a_model_that_only_begins_like_a_known_one_is_unknown() -> None:
    for provider, name in [
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "gpt-5-codex"),
        ("mistral", "mistral-large-2407"),
        ("gemini", "gemini-2.5-flash-image"),
        ("nobody", "gpt-4o"),
        ("azure", "gpt-4o"),
        ("compatible", "gpt-4o"),
    ]:
        assert find_model(provider, name) is None, (provider, name)


def test_the_same_name_at_another_vendor_is_another_row() -> None:
    at_groq, at_together = (find_model(name, "openai/gpt-oss-120b") for name in ("groq", "together"))
    assert at_groq is not None
    assert at_together is not None
    assert (at_groq.max_output, at_together.max_output) == (65_536, None)


def test_rows_are_of_vendors_of_ours_and_once() -> None:
    assert {info.provider for info in MODELS} <= VENDORS.keys()
    names = [(info.provider, info.name.lower()) for info in MODELS]
    assert len(set(names)) == len(names)
    listed = {(info.provider, info.name) for name in VENDORS for info in known_models(name)}
    assert listed >= {(info.provider, info.name) for info in MODELS}
    assert known_models("openai-responses") == known_models("openai"), "another wire to the same models"
    assert known_models("nobody") == ()


@pytest.mark.parametrize("info", MODELS, ids=lambda info: f"{info.provider}:{info.name}")
def test_numbers_of_a_row_make_sense(info: ModelInfo) -> None:
    window, longest = info.context_window, info.max_output
    assert window is None or 8_000 <= window <= 4_000_000
    assert longest is None or 1_000 <= longest <= 1_000_000
    assert window is None or longest is None or longest < window
    assert info.structured in ("native", "tool", "json", "prompt", None)
    # Only OpenAI's own wire and those like it know JSON mode; a Claude is held to a schema by a tool.
    assert not (info.provider == "anthropic" and info.structured == "json")


def test_looking_nothing_up_loads_no_rows() -> None:
    code = (
        "import sys, loom, loom.agent, loom.assembly.providers, loom.llm.catalog; "
        "print('loom.llm.catalog_data' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
