"""List prices: the cache is priced, what is unknown stays unknown, and nobody is asked over the network."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loom import Agent, FallbackModel, Model, Price, Runtime, RuntimeLimits, tool
from loom.assembly.vendors import VENDORS
from loom.errors import ConfigError, ProviderUnavailableError
from loom.llm.catalog_data import MODELS
from loom.llm.pricing import list_price, price_of
from loom.testing.model_server import ModelServer
from loom.types import ChatMessage, ChatResponse, Role, RunState, StopReason, ToolCall, Usage

MILLION = 1_000_000


def test_the_cache_is_priced_apart() -> None:
    plain = price_of("anthropic", "claude-sonnet-4-5", Usage(100_000, 10_000))
    read = price_of("anthropic", "claude-sonnet-4-5", Usage(100_000, 10_000, cache_read_tokens=90_000))
    written = price_of("anthropic", "claude-sonnet-4-5", Usage(100_000, 10_000, cache_write_tokens=90_000))
    assert plain is not None
    assert read is not None
    assert written is not None
    assert read < plain < written
    listed = list_price("anthropic", "claude-sonnet-4-5")
    assert listed is not None
    assert listed.cache_read is not None
    assert plain == pytest.approx((100_000 * listed.input + 10_000 * listed.output) / MILLION)
    assert read == pytest.approx(
        (10_000 * listed.input + 90_000 * listed.cache_read + 10_000 * listed.output) / MILLION
    )


def test_what_the_table_does_not_price_apart_costs_what_input_costs() -> None:
    listed = list_price("groq", "llama-3.3-70b-versatile")
    assert listed is not None
    assert (listed.cache_read, listed.cache_write) == (None, None)
    assert price_of("groq", "llama-3.3-70b-versatile", Usage(1000, 0, 400, 300)) == pytest.approx(
        listed.input / 1000
    )


def test_a_service_that_counts_the_cache_apart_is_still_priced() -> None:
    cost = price_of("anthropic", "claude-sonnet-4-5", Usage(3, 10, cache_read_tokens=1_111))
    assert cost is not None
    assert cost > 0


def test_unknown_is_none_and_never_zero() -> None:
    usage = Usage(1000, 1000)
    for provider, name in [
        ("openai", "gpt-99"),
        ("openai", "gpt-4o-of-mine"),
        ("openai", "text-embedding-3-small-of-mine"),
        ("anthropic", "claude-opus-4-9"),
        ("qwen", "qwen-plus"),  # the table has no such service
        ("azure", "gpt-4o"),  # a deployment's name says nothing about its model
        ("ollama", "llama3.2"),
        ("compatible", "gpt-4o"),
        ("offline", "offline"),
        ("nobody", "gpt-4o"),
        ("openrouter", "deepseek/deepseek-r1:free"),  # a row without a price
        ("openai", "whisper-1"),  # priced by the hour
        ("openai", ""),
    ]:
        assert price_of(provider, name, usage) is None, (provider, name)
        assert list_price(provider, name) is None, (provider, name)
    assert price_of("openai", "gpt-4o", Usage()) == 0, "no use of a known model costs nothing"


def test_dated_names_cost_what_the_model_costs() -> None:
    usage = Usage(1000, 100)
    assert price_of("openai", "gpt-4o-2024-11-20", usage) == price_of("openai", "gpt-4o", usage)
    assert price_of("anthropic", "claude-sonnet-4-5-20250929", usage) == price_of(
        "anthropic", "claude-sonnet-4-5", usage
    )


def test_the_catalogue_and_the_prices_speak_of_the_same_models() -> None:
    priced = [info for info in MODELS if list_price(info.provider, info.name)]
    assert len(priced) > len(MODELS) * 3 // 4
    assert {info.provider for info in priced} <= VENDORS.keys()


# --- in a run -----------------------------------------------------------------------------------------


def reply(text: str, **usage: int) -> ChatResponse:
    return ChatResponse(ChatMessage(Role.ASSISTANT, text), Usage(**usage), StopReason.STOP)


def limited(max_cost: float) -> Runtime:
    return Runtime(limits=RuntimeLimits(max_cost=max_cost))


async def test_a_run_reports_the_list_price_when_it_is_asked_to() -> None:
    used = {"input_tokens": 1000, "output_tokens": 100}
    expected = price_of("openai", "gpt-4o", Usage(**used))
    async with ModelServer([reply("one", **used)] * 3) as server:
        at = {"base_url": server.base_url, "api_key": "k"}
        asked = await Agent(model=Model.openai("gpt-4o", price="auto", **at)).run("Hello")
        silent = await Agent(model=Model.openai("gpt-4o", **at)).run("Hello")
        unheard = await Agent(model=Model.openai("unheard-of", price="auto", **at)).run("Hello")
    assert asked.cost == pytest.approx(expected)
    assert silent.cost is None
    assert unheard.cost is None, "unknown is not zero"


async def test_max_cost_holds_with_the_list_price() -> None:
    @tool
    def look() -> str:
        """Look around."""
        return "nothing"

    calling = ChatMessage(Role.ASSISTANT, None, tool_calls=[ToolCall("1", "look")])
    dear = ChatResponse(calling, Usage(input_tokens=MILLION), StopReason.TOOL_USE)
    async with ModelServer([dear, "never asked for"]) as server:
        model = Model.openai("gpt-4o", base_url=server.base_url, api_key="k")
        result = await Agent(model=model, tools=[look], runtime=limited(0.01)).run("Hello")
        assert server.remaining == 1
    assert result.state is RunState.LIMIT_REACHED
    assert result.cost == price_of("openai", "gpt-4o", Usage(input_tokens=MILLION))


async def test_a_declared_price_comes_before_the_list() -> None:
    async with ModelServer([reply("cheap", input_tokens=MILLION, output_tokens=0)]) as server:
        model = Model.openai("gpt-4o", base_url=server.base_url, api_key="k", price=Price(7, 7))
        result = await Agent(model=model, runtime=limited(100.0)).run("Hello")
    assert result.cost == pytest.approx(7)


async def test_each_of_several_models_has_its_own_list_price() -> None:
    used = {"input_tokens": 1000, "output_tokens": 100}
    async with ModelServer([ProviderUnavailableError("down"), reply("Here.", **used)]) as server:
        at = {"base_url": server.base_url, "api_key": "k", "max_retries": 0}
        first, second = Model.openai("gpt-4o", **at), Model.anthropic("claude-haiku-4-5", **at)
        result = await Agent(model=FallbackModel([first, second]), runtime=limited(1.0)).run("Hello")
        assert result.output == "Here."
    assert result.cost == price_of("anthropic", "claude-haiku-4-5", Usage(**used))
    several = FallbackModel([first, Model.openai("unheard-of", **at)])
    with pytest.raises(ConfigError, match="openai:unheard-of has none"):
        await Agent(model=several, runtime=limited(1.0)).run("Hello")


async def test_max_cost_with_a_price_nobody_knows_is_refused() -> None:
    for model in (
        Model.openai("unheard-of", api_key="k"),
        Model.openai("unheard-of", api_key="k", price="auto"),
        Model.compatible("gpt-4o", base_url="http://127.0.0.1:9/v1"),
    ):
        with pytest.raises(ConfigError, match=r"price=Price.*loom-agent\[pricing\]"):
            await Agent(model=model, runtime=limited(1.0)).run("Hello")


# --- without the extra, and without a network ---------------------------------------------------------

_WITHOUT = """
import sys
sys.modules["genai_prices"] = None  # how Python spells "not installed"
from loom.llm.pricing import list_price, price_of
from loom.types import Usage
print(price_of("openai", "gpt-4o", Usage(1000, 1000)), list_price("openai", "gpt-4o"))
from loom import Model
from loom.assembly.prices import pricer
model = Model.openai("gpt-4o", api_key="k", price="auto")
print(pricer(model)(Usage(1, 1)), pricer(model, needed=True))
"""

_QUIET = """
import sys
deeds = []
def watch(event, args):
    if event.startswith(("socket.", "subprocess.", "urllib.", "os.system")) or event == "_thread.start_new_thread":
        deeds.append(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        deeds.append(f"{event} {args[0]}")
import asyncio, ssl, httpx2  # what these do when imported is their own affair
sys.addaudithook(watch)
from loom.llm.pricing import list_price, price_of
from loom.types import Usage
assert price_of("openai", "gpt-4o", Usage(1000, 1000)) > 0
assert list_price("anthropic", "claude-sonnet-4-5") is not None
import threading
print(deeds, threading.active_count())
"""

_LAZY = """
import sys
from loom import Model
from loom.assembly.prices import pricer
from loom.types import Usage
Model.openai("gpt-4o", price="auto")
assert pricer(Model.openai("gpt-4o")) is None
price = pricer(Model.openai("gpt-4o", price="auto"))
assert pricer(Model.offline()) is None
before = "genai_prices" in sys.modules
price(Usage(1, 1))
print(before, "genai_prices" in sys.modules)
"""


def python(code: str) -> str:
    command = [sys.executable, "-B", "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout.strip()


def test_without_the_extra_every_price_is_unknown() -> None:
    assert python(_WITHOUT) == "None None\nNone None"


def test_prices_come_from_the_package_alone() -> None:
    assert python(_QUIET) == "[] 1"


def test_the_table_is_loaded_when_a_price_is_asked_for_and_not_before() -> None:
    assert python(_LAZY) == "False True"
