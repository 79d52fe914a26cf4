"""Models end: what a name stands for on a day, what is refused, and that nothing of ours leads to a dead model.

Every test says what day it is, so that none of them changes its mind later.
"""

from __future__ import annotations

import inspect
import logging
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

import loom
from loom.assembly.models import make_model
from loom.assembly.providers import choose_model, make_provider, settled
from loom.assembly.several import Parts
from loom.assembly.vendors import VENDORS
from loom.config.model import Model
from loom.errors import ConfigError
from loom.llm.anthropic import AnthropicProvider
from loom.llm.catalog import ModelInfo, find_model, is_dated, known_models, living
from loom.llm.catalog_data import MODELS
from loom.llm.catalog_endings import ENDINGS, SOURCES
from loom.llm.catalog_names import NOTICE, meaning, stand_in
from loom.llm.gemini import GeminiProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.llm.pricing import price_of
from loom.testing.model_server import ModelServer
from loom.types import Usage

TODAY = date(2026, 11, 29)
ROOT = Path(__file__).parents[2]
OPUS_4 = ("anthropic", "claude-opus-4-20250514")
ROWS = [info for provider in SOURCES for info in known_models(provider)]


def asked_for(model: Model, today: date = TODAY, **environ: str) -> str:
    """The name that the service would be sent."""
    key = dict.fromkeys(VENDORS[model.provider].key_envs, "k")
    name: str = make_provider(model, environ={**key, **environ}, today=today).default_model  # type: ignore[attr-defined]
    return name


def test_every_provider_in_the_tables_says_where_its_rows_were_read() -> None:
    assert {info.provider for info in MODELS} | ENDINGS.keys() == SOURCES.keys()


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "today", "sent"),
    [
        (Model.anthropic("claude-sonnet-4"), TODAY, "claude-sonnet-4-6"),
        (Model.anthropic("claude-opus-4"), TODAY, "claude-opus-4-8"),
        (Model.anthropic("claude-opus-4-1"), TODAY, "claude-opus-4-8"),
        (Model.anthropic("claude-3-7-sonnet-latest"), TODAY, "claude-sonnet-4-6"),
        (Model.anthropic("claude-sonnet-4-5"), TODAY, "claude-sonnet-4-5"),
        (Model.anthropic("claude-sonnet-4-5"), date(2026, 11, 30), "claude-sonnet-5-5"),
        (Model.openai("gpt-4o"), TODAY, "gpt-4o"),
        (Model.openai("gpt-4o"), date(2027, 1, 13), "gpt-4o"),
        (Model.openai("gpt-4o"), date(2027, 1, 14), "gpt-6-luna"),
        (Model.openai("o3"), date(2026, 12, 11), "gpt-6.1-sol"),
        (Model.gemini("gemini-2.5-flash"), date(2026, 12, 1), "gemini-3.5-flash-lite"),
        (Model.gemini("models/gemini-2.5-flash"), date(2026, 12, 1), "gemini-3.5-flash-lite"),
        (Model.gemini("gemini-2.5-pro"), date(2026, 12, 1), "gemini-3.8-flash"),
        (Model.deepseek("deepseek-chat"), TODAY, "deepseek-v4-flash"),
        (Model.xai("grok-4"), TODAY, "grok-4.3"),
        (Model.minimax("MiniMax-M2.7"), TODAY, "MiniMax-M3.1-Flash"),
        (Model("openai-responses", "gpt-5"), date(2026, 12, 11), "gpt-6.1-sol"),
        (Model.anthropic("claude-nobody-9"), TODAY, "claude-nobody-9"),
    ],
)
def test_review_c_a_name_without_a_date_stands_for_a_living_model(
    model: Model, today: date, sent: str
) -> None:
    assert asked_for(model, today) == sent


@pytest.mark.parametrize(
    ("model", "ended", "successor"),
    [
        (Model.anthropic("claude-sonnet-4-20250514"), "2026-06-15", "claude-sonnet-4-6"),
        (Model.anthropic("claude-opus-4@20250514"), "2026-06-15", "claude-opus-4-8"),
        (Model.openai("gpt-4o-2024-05-13"), "2026-10-23", "gpt-5.6-sol"),
        (Model.openai("o1-2024-12-17"), "2026-10-23", "gpt-5.6-sol"),
        (Model.gemini("gemini-2.0-flash-001"), "2026-06-01", "gemini-3.6-flash"),
        (Model.xai("grok-4-0709"), "2026-05-15", "grok-4.3"),
        (Model.groq("llama-3.3-70b-versatile"), "2026-08-16", "openai/gpt-oss-120b"),
    ],
)
def test_review_c_a_dated_name_is_refused_with_its_successor_and_never_replaced(
    model: Model, ended: str, successor: str
) -> None:
    with pytest.raises(
        ConfigError, match=rf"retired on {ended}.*successor is {re.escape(successor)} "
    ) as caught:
        asked_for(model)
    assert model.name in str(caught.value)
    assert SOURCES[model.provider].page in str(caught.value)


def test_review_c_a_dated_name_lives_until_its_day() -> None:
    snapshot = Model.openai("gpt-4o-2024-11-20")
    assert asked_for(snapshot, date(2027, 1, 13)) == "gpt-4o-2024-11-20"
    with pytest.raises(ConfigError, match="gpt-6-luna"):
        asked_for(snapshot, date(2027, 1, 14))


def test_review_c_the_error_names_the_successor_of_a_successor_that_has_ended_too() -> None:
    row = ModelInfo(provider="anthropic", name="old", retires=TODAY, successor="claude-sonnet-4-5")
    found = living(row, date(2026, 12, 1))
    assert found is not None
    assert found.name == "claude-sonnet-5-5"
    assert living(
        ModelInfo(provider="anthropic", name="x", retires=TODAY, successor="claude-sonnet-4"), TODAY
    )
    assert living(ModelInfo(provider="anthropic", name="x", retires=TODAY, successor="nobody"), TODAY) is None
    assert living(ModelInfo(provider="anthropic", name="x", retires=TODAY), TODAY) is None
    with pytest.raises(ConfigError, match=r"its successor is claude-sonnet-4-6 "):
        meaning("anthropic", "claude-3-5-sonnet-20241022", TODAY)


def test_review_c_to_declare_a_retired_model_is_no_mistake_and_to_build_it_is() -> None:
    model = Model.anthropic("claude-sonnet-4-20250514", api_key="k")
    agent = loom.Agent(model=model)
    assert Model.parse("anthropic:claude-sonnet-4-20250514").name == model.name
    with pytest.raises(ConfigError, match="claude-sonnet-4-6"):
        agent.run_sync("Hello")
    with pytest.raises(ConfigError, match="claude-sonnet-4-6"):
        make_model(loom.FallbackModel([model, Model.offline()]))


def test_review_c_an_address_of_ones_own_is_asked_for_what_was_declared() -> None:
    assert (
        asked_for(Model.anthropic("claude-sonnet-4-20250514", base_url="http://mine"))
        == "claude-sonnet-4-20250514"
    )
    assert asked_for(Model.openai("gpt-4", base_url="http://mine/v1")) == "gpt-4"
    assert asked_for(Model.compatible("gpt-4", base_url="http://mine/v1")) == "gpt-4"
    # A family's name is no service's: there is nobody who could have meant the name itself.
    assert asked_for(Model.anthropic("claude-sonnet-4", base_url="http://mine")) == "claude-sonnet-4-6"


def test_review_c_a_variable_says_where_the_vendor_is_and_changes_nothing_else() -> None:
    with pytest.raises(ConfigError, match="claude-opus-4-8"):
        asked_for(Model.anthropic("claude-opus-4-1-20250805"), ANTHROPIC_BASE_URL="http://proxy")


def test_review_c_what_a_name_stands_for_is_what_is_paid_for() -> None:
    model = Model.anthropic("claude-opus-4", api_key="k")
    assert settled(model, today=TODAY) == Model.anthropic("claude-opus-4-8", api_key="k")
    live, usage = make_model(model, priced=True), Usage(1_000_000, 1_000)
    assert live.name == asked_for(model, datetime.now(UTC).date())
    assert live.price(usage, "") == price_of("anthropic", live.name, usage) != price_of(*OPUS_4, usage)
    parts = Parts(priced=True)
    label = parts.candidate(model).label
    assert label == f"anthropic:{live.name}"
    assert parts.price(usage, label) == live.price(usage, "")


def test_review_c_a_family_is_asked_for_by_its_living_member() -> None:
    with ModelServer.in_thread(["Hello"]) as server:
        model = Model.anthropic("claude-sonnet-4", base_url=server.base_url, api_key="k")
        assert loom.Agent(model=model).run_sync("Hello").ok
    assert server.requests[0].body["model"] == stand_in(
        "anthropic", "claude-sonnet-4", datetime.now(UTC).date()
    )


# --- said once ----------------------------------------------------------------------------------------


def test_review_c_what_was_replaced_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="loom.models"):
        for _ in range(3):
            asked_for(Model.anthropic("claude-opus-4-0"))
    (record,) = caplog.records
    assert "claude-opus-4-0 was retired on 2026-06-15" in record.getMessage()
    assert "claude-opus-4-8" in record.getMessage()


def test_review_c_an_end_is_told_a_month_ahead(caplog: pytest.LogCaptureFixture) -> None:
    ends = date(2027, 4, 1)
    with caplog.at_level(logging.WARNING, logger="loom.models"):
        assert asked_for(Model.openai("gpt-5.1"), ends - NOTICE - timedelta(1)) == "gpt-5.1"
        assert not caplog.records
        assert asked_for(Model.openai("gpt-5.1"), ends - NOTICE) == "gpt-5.1"
    (record,) = caplog.records
    assert "will be retired on 2027-04-01; its successor is gpt-6-sol" in record.getMessage()


# --- names at other services ---------------------------------------------------------------------------


def test_review_c_a_gemini_name_with_its_path_finds_its_row() -> None:
    assert (
        find_model("gemini", "models/gemini-3.8-flash")
        == find_model("gemini", "gemini-3.8-flash")
        is not None
    )
    assert find_model("openai", "models/gpt-4o") is None


@pytest.mark.parametrize(
    ("name", "window", "retires", "successor"),
    [
        ("anthropic/claude-opus-4.8", 1_000_000, None, None),
        ("anthropic/claude-sonnet-4.5", 200_000, date(2026, 11, 30), "anthropic/claude-sonnet-5.5"),
        ("anthropic/claude-sonnet-4", 200_000, date(2026, 6, 15), "anthropic/claude-sonnet-4.6"),
        ("openai/gpt-4o", 128_000, date(2027, 1, 14), "openai/gpt-6-luna"),
        ("openai/gpt-4o:extended", 128_000, date(2027, 1, 14), "openai/gpt-6-luna"),
        ("google/gemini-2.5-flash", 1_048_576, date(2026, 12, 1), "google/gemini-3.5-flash-lite"),
        ("x-ai/grok-4.7", 500_000, None, None),
        ("z-ai/glm-5.3:free", 1_000_000, None, None),
    ],
)
def test_review_c_names_at_openrouter_find_the_rows_of_their_makers(
    name: str, window: int, retires: date | None, successor: str | None
) -> None:
    found = find_model("openrouter", name)
    assert found is not None
    assert (found.provider, found.context_window, found.retires, found.successor) == (
        "openrouter",
        window,
        retires,
        successor,
    )


def test_review_c_openrouter_is_told_of_an_end_and_chooses_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="loom.models"):
        assert asked_for(Model.openrouter("anthropic/claude-3.7-sonnet")) == "anthropic/claude-3.7-sonnet"
    assert "its successor is anthropic/claude-sonnet-4.6" in caplog.text
    for name in ("nobody/model", "openai/nothing", "openai", ""):
        assert find_model("openrouter", name) is None


# --- what we choose ------------------------------------------------------------------------------------


def test_review_c_auto_with_a_key_of_anthropic_alone_takes_a_living_model() -> None:
    assert choose_model({"ANTHROPIC_API_KEY": "k"}, today=TODAY) == Model.anthropic("claude-sonnet-4-6")


def test_review_c_auto_goes_on_with_the_successor_of_a_default_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dataclasses import replace

    row = replace(VENDORS["anthropic"], default="claude-opus-4-1-20250805")
    monkeypatch.setitem(VENDORS, "anthropic", row)
    assert choose_model({"ANTHROPIC_API_KEY": "k"}, today=TODAY) == Model.anthropic("claude-opus-4-8")


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.default])
def test_review_c_the_default_of_a_vendor_is_in_the_catalogue_and_lives(name: str) -> None:
    default = VENDORS[name].default
    info = find_model(name, default)
    assert info is not None, "a default of which nothing is known may be dead"
    assert info.checked is not None
    assert not info.ended(info.checked + NOTICE), f"{default} ends on {info.retires}: use {info.successor}"
    assert not is_dated(default) or name == "mistral"


def defaults_in_code() -> dict[str, tuple[str, str]]:
    """What is asked for where nobody names a model: of factories and of the providers themselves."""
    found = {f"Model.{name}": (name, getattr(Model, name)().name) for name in ("deepseek", "minimax")}
    for wire, provider in [
        (AnthropicProvider, "anthropic"),
        (GeminiProvider, "gemini"),
        (OpenAICompatibleProvider, "openai"),
        (OpenAIResponsesProvider, "openai"),
    ]:
        found[wire.__name__] = (provider, inspect.signature(wire).parameters["default_model"].default)
    return found


@pytest.mark.parametrize("where", defaults_in_code())
def test_review_c_every_default_in_code_is_that_of_its_vendor(where: str) -> None:
    provider, default = defaults_in_code()[where]
    assert default == VENDORS[provider].default


WRITTEN = re.compile(
    r"(?:Model\.(?P<factory>\w+)\(\s*|[\"' ](?P<provider>[a-z-]+):)[\"']?(?P<name>[\w./-]*\w)"
)


def written() -> dict[str, set[str]]:
    """The models that README, docs, examples and docstrings name, and the files that do."""
    found: dict[str, set[str]] = {}
    sources = [
        ROOT / "README.md",
        *(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "decisions"),
        *(ROOT / "examples").rglob("*.py"),
        *(ROOT / "src").rglob("*.py"),
    ]
    for path in sources:
        for match in WRITTEN.finditer(path.read_text(encoding="utf-8")):
            provider = match["factory"] or match["provider"]
            if find_model(provider, match["name"]) is not None:
                found.setdefault(f"{provider}:{match['name']}", set()).add(str(path.relative_to(ROOT)))
    return found


def test_review_c_no_page_and_no_docstring_recommends_a_model_that_is_about_to_end() -> None:
    named = written()
    assert len(named) >= 5
    for model, files in named.items():
        info = find_model(*model.split(":", 1))
        assert info is not None
        assert info.checked is not None
        assert info.retires is None or info.retires > info.checked + 3 * NOTICE, (model, info.retires, files)


# --- the rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("info", ROWS, ids=lambda info: f"{info.provider}:{info.name}")
def test_review_c_every_row_says_where_and_when_it_was_read(info: ModelInfo) -> None:
    assert info.source
    assert info.checked is not None
    assert date(2026, 1, 1) <= info.checked


@pytest.mark.parametrize(
    ("provider", "name"), [(provider, name) for provider, endings in ENDINGS.items() for name in endings]
)
def test_review_c_every_end_leads_to_a_model_that_outlives_it(provider: str, name: str) -> None:
    info = find_model(provider, name)
    assert info is not None
    assert info.successor is not None
    successor = find_model(provider, info.successor)
    assert successor is not None, f"{info.successor} has no row"
    assert successor.name != info.name
    if info.retires is not None:
        assert successor.retires is None or successor.retires > info.retires
        heir = living(info, max(info.retires, TODAY))
        assert heir is not None


def test_review_c_the_models_named_by_the_review() -> None:
    ended = {f"{info.provider}:{info.name}" for info in ROWS if info.ended(TODAY)}
    assert {
        "anthropic:claude-sonnet-4",
        "anthropic:claude-opus-4",
        "deepseek:deepseek-chat",
        "groq:llama-3.3-70b-versatile",
    } <= ended
    assert len(ended) >= 18
    for provider, names in {
        "openai": "gpt-6.1-sol gpt-6.1-terra gpt-5.6-terra gpt-5.6-luna gpt-6.2-sol",
        "gemini": "gemini-3.6-flash gemini-3.7-flash gemini-3.5-flash-lite",
        "xai": "grok-4.20",
        "minimax": "MiniMax-M3.1-Flash",
        "anthropic": "claude-fable-5-2",
        "mistral": "mistral-large-4",
    }.items():
        for name in names.split():
            info = find_model(provider, name)
            assert info is not None, name
            assert not info.ended(TODAY)
