"""Declarations of models, and the way from them to a provider: keys, addresses, vendors, auto."""

import asyncio
import copy
import math
import pickle
import socket
import subprocess
import sys
import time
from datetime import date
from typing import Any

import msgspec
import pytest

from loom.assembly.prices import model_info
from loom.assembly.providers import choose_model, make_provider
from loom.assembly.vendors import VENDORS
from loom.config.model import Generation, Instructions, Model, Price, Secret
from loom.errors import AuthenticationError, ConfigError
from loom.llm.anthropic import AnthropicProvider
from loom.llm.gemini import GeminiProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.testing.model_server import ModelServer
from loom.types import ChatMessage, Role, Usage, jsonable

KEY = "sk-test-5f3a9c1e7b2d4860aabbccdd"
HELLO = [ChatMessage(Role.USER, "Hello")]
NOBODY = {"OLLAMA_BASE_URL": "http://127.0.0.1:9"}


# --- Model --------------------------------------------------------------------------------------------


def test_a_key_shows_nowhere() -> None:
    model = Model.openai("gpt-4o", api_key=KEY)
    direct = Model("openai", "gpt-4o", api_key=KEY)
    assert model == direct == Model.openai("gpt-4o", api_key=Secret(KEY))
    assert model != Model.openai("gpt-4o", api_key="other")
    for value in (model, direct):
        shown = repr(value) + str(value) + f"{value}" + repr(msgspec.structs.asdict(value)) + repr([value])
        assert KEY not in shown
        for dump in (pickle.dumps, msgspec.json.encode, lambda v: msgspec.json.encode(v, enc_hook=jsonable)):
            with pytest.raises(TypeError) as caught:
                dump(value)
            assert KEY not in str(caught.value)
        assert copy.deepcopy(value) == value
    with pytest.raises(ConfigError) as error:
        Model.openai("gpt-4o", api_key=KEY, timeout=-1)
    assert KEY not in str(error.value)
    with pytest.raises(ConfigError, match="api_key"):
        Model("openai", "x", extensions={"api_key": KEY})


def test_identifiers_go_there_and_back() -> None:
    for identifier in ("openai:gpt-4o", "ollama:llama3:8b", "openrouter:a/b:free"):
        assert Model.parse(identifier).identifier == identifier
    assert Model.parse("auto") == Model.auto()
    assert Model.parse("offline") == Model.offline()
    assert Model.parse(" groq:x ", api_key_env="K") == Model.groq("x", api_key_env="K")
    for wrong in ("", "gpt-4o", ":x", "openai:"):
        with pytest.raises(ConfigError, match="provider:name"):
            Model.parse(wrong)


def test_two_names_of_the_address_must_agree() -> None:
    assert Model.openai("x", api_base="http://a").base_url == "http://a"
    assert Model.openai("x", base_url="http://a").api_base == "http://a"
    assert Model.openai("x", base_url="http://a", api_base="http://a").api_base == "http://a"
    with pytest.raises(TypeError, match="differ"):
        Model.openai("x", base_url="http://a", api_base="http://b")
    options: Any = {"api_kye": "x"}
    with pytest.raises(TypeError, match="api_kye"):
        Model.openai("x", **options)


@pytest.mark.parametrize(
    "name",
    [
        "anthropic",
        "openai",
        "gemini",
        "qwen",
        "deepseek",
        "minimax",
        "ollama",
        "groq",
        "mistral",
        "openrouter",
        "xai",
        "together",
        "fireworks",
        "zai",
        "azure",
        "vllm",
        "lmstudio",
        "compatible",
    ],
)
def test_every_factory_has_its_row(name: str) -> None:
    assert getattr(Model, name)("some-model").identifier == f"{name}:some-model"
    assert Model.parse(f"{name}:some-model") == getattr(Model, name)("some-model")
    assert name in VENDORS


def test_every_row_has_its_factory() -> None:
    for name, vendor in VENDORS.items():
        docstring = str(getattr(Model, name.partition("-")[0]).__doc__)
        assert [env for env in vendor.key_envs if env not in docstring] == [], name


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": 3},
        {"price": "cheap"},
        {"context_window": 0},
        {"context_window": True},
        {"context_window": "128k"},
    ],
)
def test_what_a_model_is_said_to_be_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Model.openai("m", **wrong)
    assert Model.openai("m", price="auto", context_window=1).context_window == 1


def test_the_declaration_knows_better_than_the_catalogue() -> None:
    assert model_info(Model.openai("gpt-4o")).context_window == 128_000
    assert model_info(Model.openai("gpt-4o", context_window=64_000)).context_window == 64_000
    assert model_info(Model.openai("gpt-4o", context_window=64_000)).max_output == 16_384
    mine = model_info(Model.vllm("my-model", context_window=32_768))
    assert (mine.name, mine.context_window, mine.max_output) == ("my-model", 32_768, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": "hot"},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": math.nan},
        {"temperature": True},
        {"max_output_tokens": 0},
        {"max_output_tokens": -1},
        {"max_output_tokens": 1.5},
        {"max_output_tokens": "9"},
    ],
)
def test_generation_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Generation(**wrong)
    assert Generation() == Generation(None, None, {})
    assert Generation(temperature=0, max_output_tokens=1).temperature == 0


def test_prices_count_the_cache_apart() -> None:
    usage = Usage(1_000_000, 100_000, 600_000, 100_000)
    assert Price(3, 15, 0.3, 3.75).cost(usage) == pytest.approx(0.9 + 0.18 + 0.375 + 1.5)
    assert Price(3, 15).cost(usage) == pytest.approx(3 + 1.5)
    assert Price(3, 15).cost(Usage()) == 0


def test_instructions_leave_out_what_is_empty() -> None:
    assert Instructions().render() == ""
    full = Instructions("Editor", "dry", ["be brief", "no jokes"], "Go.").render()
    assert full == "Role: Editor\n\nStyle: dry\n\nConstraints:\n- be brief\n- no jokes\n\nGo."


def test_declarations_need_no_network_library() -> None:
    modules = "loom.config.model, loom.assembly.providers, loom.llm.openai_compat, loom.llm.anthropic, loom.llm.gemini"
    code = f"import sys, {modules}; print(sorted({{'aiohttp', 'pydantic'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- make_provider ------------------------------------------------------------------------------------


def test_a_missing_key_names_the_variable_and_the_way_without() -> None:
    with pytest.raises(AuthenticationError, match=r"set OPENAI_API_KEY.*Model\.offline\(\)"):
        make_provider(Model.openai("gpt-4o"), environ={})
    with pytest.raises(AuthenticationError, match="set GEMINI_API_KEY or GOOGLE_API_KEY"):
        make_provider(Model.gemini("g"), environ={"GEMINI_API_KEY": "  "})
    with pytest.raises(AuthenticationError, match="set MINE"):
        make_provider(Model.openai("gpt-4o", api_key_env="MINE"), environ={"OPENAI_API_KEY": "x"})


def test_an_unknown_provider_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"anthropic, openai, .*compatible"):
        make_provider(Model("nobody", "x"), environ={})


def provider(model: Model, **environ: str) -> OpenAICompatibleProvider:
    made = make_provider(model, environ=environ)
    assert isinstance(made, OpenAICompatibleProvider)
    return made


def native(model: Model, **environ: str) -> GeminiProvider:
    made = make_provider(model, environ=environ)
    assert isinstance(made, GeminiProvider)
    return made


def test_where_keys_and_addresses_come_from() -> None:
    assert provider(Model.openai("m", api_key="mine"), OPENAI_API_KEY="theirs").api_key == "mine"
    assert provider(Model.openai("m", api_key_env="K"), K="k", OPENAI_API_KEY="x").api_key == "k"
    assert native(Model.gemini("m"), GOOGLE_API_KEY="g").api_key == "g"
    assert native(Model.gemini("m"), GOOGLE_API_KEY="g", GEMINI_API_KEY="first").api_key == "first"
    assert native(Model.gemini("m"), GEMINI_BASE_URL="http://g/v1beta/").base_url == "http://g/v1beta"
    assert provider(Model.openai("m"), OPENAI_BASE_URL="http://here/v1/").base_url == "http://here/v1"
    assert provider(Model.openai("m", base_url="http://a"), OPENAI_BASE_URL="http://b").base_url == "http://a"
    assert provider(Model.ollama("m")).base_url == "http://localhost:11434/v1"
    assert provider(Model.ollama("m"), OLLAMA_BASE_URL="http://box:1/").base_url == "http://box:1/v1"
    assert provider(Model.ollama("m"), OLLAMA_BASE_URL="box:1").base_url == "http://box:1/v1"
    assert provider(Model.ollama("m", base_url="http://box:1/v1")).base_url == "http://box:1/v1"
    assert provider(Model.compatible("m"), LOOM_BASE_URL="http://box/v1").base_url == "http://box/v1"
    assert provider(Model.vllm("m")).base_url == "http://localhost:8000/v1"
    assert provider(Model.vllm("m"), VLLM_BASE_URL="http://gpu/llm", VLLM_API_KEY="k").api_key == "k"
    assert provider(Model.vllm("m"), VLLM_BASE_URL="gpu:8000/v1").base_url == "http://gpu:8000/v1"
    assert provider(Model.lmstudio("m")).base_url == "http://localhost:1234/v1"
    with pytest.raises(ConfigError, match=r"LOOM_BASE_URL.*base_url"):
        make_provider(Model.compatible("m"), environ={})
    with pytest.raises(ConfigError, match="must be an http"):
        make_provider(Model.openai("m", base_url="api.openai.com/v1", api_key="k"), environ={})


def azure(endpoint: str, name: str = "my gpt/4", **environ: str) -> str:
    """The address that a deployment is asked at."""
    made = provider(Model.azure(name), AZURE_OPENAI_ENDPOINT=endpoint, AZURE_OPENAI_API_KEY="k", **environ)
    return made.endpoint("/chat/completions")


def test_azure_is_asked_at_the_deployment_or_at_the_newer_address() -> None:
    at = "https://me.openai.azure.com"
    deployment = f"{at}/openai/deployments/my%20gpt%2F4/chat/completions"
    assert azure(at) == azure(f"{at}/") == f"{deployment}?api-version=2024-10-21"
    assert azure(at, OPENAI_API_VERSION="2025-04-01") == f"{deployment}?api-version=2025-04-01"
    for newer in (f"{at}/openai/v1", f"{at}/openai/v1/"):
        assert azure(newer, OPENAI_API_VERSION="2025-04-01") == f"{at}/openai/v1/chat/completions"
    assert azure(f"{at}?a=b") == f"{deployment}?a=b&api-version=2024-10-21"
    with pytest.raises(ConfigError, match="set AZURE_OPENAI_ENDPOINT"):
        make_provider(Model.azure("m"), environ={"AZURE_OPENAI_API_KEY": "k"})
    with pytest.raises(AuthenticationError, match="set AZURE_OPENAI_API_KEY"):
        make_provider(Model.azure("m"), environ={"AZURE_OPENAI_ENDPOINT": at})


def test_oddities_are_those_of_the_row_unless_the_model_is_known_better() -> None:
    environ = {name: "k" for vendor in VENDORS.values() for name in vendor.key_envs}
    at = "https://me.openai.azure.com"
    assert provider(Model.azure("m", base_url=at), **environ)._max_tokens_field == "max_tokens"
    newer = provider(Model.azure("m", base_url=f"{at}/openai/v1"), **environ)
    assert newer._max_tokens_field == "max_completion_tokens"
    assert provider(Model.zai("glm-99"), **environ)._structured == "json"
    assert provider(Model.groq("some-model"), **environ)._structured == "json"
    assert provider(Model.groq("openai/gpt-oss-120b"), **environ)._structured == "native"
    mine = "http://mine/v1"  # where a retired model may be asked for
    assert provider(Model.openai("gpt-4o-2024-11-20", base_url=mine), **environ)._structured == "native"
    assert provider(Model.openai("gpt-4o-2024-05-13", base_url=mine), **environ)._structured == "json"
    deepseek = provider(Model.deepseek(), **environ)
    assert deepseek._dialect[:3] == ("reasoning_content", True, False)
    assert provider(Model.openrouter("x/y"), **environ)._dialect.reasoning == "reasoning_details"


def test_settings_reach_the_provider() -> None:
    made = provider(
        Model.qwen(
            "m", api_key="k", timeout=9, max_retries=0, extensions={"enable_thinking": True, "stream": True}
        )
    )
    assert (made.default_model, made.timeout, made._retry.max_retries) == ("m", 9, 0)
    assert made._extensions == {"enable_thinking": True}
    claude = make_provider(
        Model.anthropic("claude-sonnet-4", api_key="k"),
        environ={"ANTHROPIC_BASE_URL": "http://g"},
        today=date(2026, 11, 29),
    )
    assert isinstance(claude, AnthropicProvider)
    assert (claude.default_model, claude.base_url) == ("claude-sonnet-4-6", "http://g")
    assert provider(Model.openai("m"), OPENAI_API_KEY="k")._max_tokens_field == "max_completion_tokens"
    assert provider(Model.openai("m"), OPENAI_BASE_URL="http://x")._max_tokens_field == "max_tokens"


async def test_a_made_provider_asks_for_its_model() -> None:
    async with ModelServer(["hi"]) as server:
        made = provider(Model.openai("gpt-x", base_url=server.base_url, api_key=KEY))
        assert (await made.chat(HELLO)).message.content == "hi"
        await made.aclose()
        assert server.requests[0].body["model"] == "gpt-x"
        assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_a_gemini_model_is_asked_in_its_own_words() -> None:
    async with ModelServer(["hi"]) as server:
        made = native(Model.gemini("gemini-x", base_url=server.base_url, api_key=KEY))
        assert (await made.chat(HELLO)).message.content == "hi"
        await made.aclose()
        (request,) = server.requests
        assert request.path == "/v1/models/gemini-x:generateContent"
        assert request.headers["x-goog-api-key"] == KEY


# --- one vendor, two wires ----------------------------------------------------------------------------


def test_the_wire_is_chosen_with_the_model() -> None:
    assert isinstance(provider(Model.openai("m", api_key="k")), OpenAICompatibleProvider)
    assert isinstance(provider(Model.openai("m", api_key="k", wire="chat")), OpenAICompatibleProvider)
    for model in (
        Model.openai("m", api_key="k", wire="responses", organization="o"),
        Model.parse("openai:m", api_key="k", wire="responses", organization="o"),
        Model.parse("openai-responses:m", api_key="k", organization="o"),
    ):
        made = make_provider(model, environ={})
        assert isinstance(made, OpenAIResponsesProvider)
        assert (made.default_model, made.base_url) == ("m", "https://api.openai.com/v1")
        assert made._auth_headers("k")["OpenAI-Organization"] == "o"


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if "responses" in vendor.wires])
def test_every_vendor_that_says_so_speaks_responses(name: str) -> None:
    model = Model(name, "m", wire="responses", api_key="k", api_base="http://here/v1")
    assert isinstance(make_provider(model, environ={}), OpenAIResponsesProvider)


def test_a_wire_that_a_vendor_does_not_speak_is_refused_with_those_it_does() -> None:
    with pytest.raises(ConfigError, match=r"mistral does not speak wire='responses'; it speaks: 'chat'"):
        make_provider(Model.mistral("m", api_key="k", wire="responses"), environ={})
    with pytest.raises(ConfigError, match="none to choose from"):
        make_provider(Model.anthropic("m", api_key="k", wire="chat"), environ={})
    with pytest.raises(ConfigError, match="it speaks: 'responses'"):
        make_provider(Model.parse("openai-responses:m", api_key="k", wire="chat"), environ={})
    with pytest.raises(ConfigError, match="wire must be 'chat' or 'responses'"):
        Model.openai("m", wire="smoke signals")


# --- auto ---------------------------------------------------------------------------------------------


def test_auto_takes_the_first_key_in_the_documented_order() -> None:
    keys = {name: "k" for vendor in VENDORS.values() for name in vendor.key_envs}
    order = [
        "anthropic",
        "openai",
        "gemini",
        "deepseek",
        "qwen",
        "minimax",
        "groq",
        "mistral",
        "openrouter",
        "xai",
        "together",
        "fireworks",
        "zai",
    ]
    seen: list[str] = []
    while (chosen := choose_model({**keys, **NOBODY})).provider != "offline":
        seen.append(chosen.provider)
        for name in VENDORS[chosen.provider].key_envs:
            del keys[name]
    assert seen == order


def test_auto_without_anything_is_offline() -> None:
    assert choose_model(NOBODY) == Model.offline()
    assert choose_model({**NOBODY, "OPENAI_API_KEY": " "}) == Model.offline()


def test_auto_takes_a_local_ollama_that_has_a_chat_model() -> None:
    with ModelServer.in_thread(models=["nomic-embed-text", "llama3:8b"]) as server:
        assert choose_model({"OLLAMA_BASE_URL": server.base_url}) == Model.ollama("llama3:8b")
        assert choose_model({"OLLAMA_BASE_URL": server.base_url.removesuffix("/v1")}) == Model.ollama(
            "llama3:8b"
        )
    with ModelServer.in_thread(models=[]) as server:
        assert choose_model({"OLLAMA_BASE_URL": server.base_url}) == Model.offline()


def test_auto_does_not_wait_for_a_port_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        chosen = choose_model({"OLLAMA_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        assert chosen == Model.offline()
        assert time.monotonic() - began < 2


async def test_a_declared_model_is_asked_as_often_at_once_as_it_says() -> None:
    inside = most = 0

    async def busy(seconds: float) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(seconds)
        inside -= 1

    async with ModelServer(["Hello"] * 6) as server:
        model = Model.openai("m", base_url=server.base_url, api_key=KEY, max_concurrent=2, total_timeout=30.0)
        made = provider(model)
        assert made._timeouts[1] == 30.0

        async def ask() -> None:
            async for _ in made.chat_stream(HELLO):
                await busy(0)

        await asyncio.gather(*(ask() for _ in range(6)))
        await made.aclose()
    assert most <= 2
    assert len(server.requests) == 6


@pytest.mark.parametrize("wrong", [{"max_concurrent": 0}, {"total_timeout": 0}, {"total_timeout": math.inf}])
def test_limits_of_a_model_must_let_something_through(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Model.openai("m", **wrong)


async def test_a_declared_model_asks_for_the_cache_of_its_service() -> None:
    async with ModelServer(["Hello", "Hello"]) as server:
        for ttl in ("5m", "1h"):
            model = Model.anthropic("m", base_url=server.base_url, api_key=KEY, prompt_cache=ttl)
            made = make_provider(model, environ={})
            await made.chat(HELLO)
            await made.aclose()
        first, second = ([*request.body["messages"][-1]["content"]][-1] for request in server.requests)
    assert first["cache_control"] == {"type": "ephemeral"}
    assert second["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    with pytest.raises(ConfigError, match="prompt_cache"):
        Model.anthropic("m", prompt_cache="2h")  # type: ignore[arg-type]
