"""What goes out to a model holds no secrets when policy says so; what is kept says what happened."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest
from secret_samples import FORMATS
from wires import KEY, Waits

from loom import Agent, GovernancePolicy, tool
from loom.llm.base import ModelSettings, secrets_of
from loom.llm.fallback import FallbackProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.redact import Scrubber
from loom.llm.routed import RoutedProvider
from loom.llm.scrubbed import ScrubbedProvider, scrubbed
from loom.loop import Agent as LoopAgent
from loom.loop import AgentConfig
from loom.testing import ModelServer, ScriptedProvider, call
from loom.tools import ToolRegistry
from loom.types import (
    CallPart,
    ChatMessage,
    ImagePart,
    OpaquePart,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
)

TOKEN = FORMATS[0]


@tool(read_only=True)
def read_config() -> str:
    """Read the configuration."""
    return f"token: {TOKEN}; key in base64: {base64.b64encode(KEY.encode()).decode()}"


@tool(read_only=True)
def check(key: str) -> str:
    """Check a key."""
    return f"{len(key)} characters"


SCRIPT = [call("read_config"), call("check", key=TOKEN), "All is well."]


def provider(server: ModelServer) -> OpenAICompatibleProvider:
    return OpenAICompatibleProvider(server.base_url, KEY, "m", sleep=Waits())


@pytest.mark.parametrize("redact", [True, False])
async def test_an_agents_requests_hold_no_secrets_and_its_log_says_what_happened(redact: bool) -> None:
    async with ModelServer(SCRIPT) as server:
        agent = Agent(
            model=provider(server),
            instructions=f"Never say {KEY}.",
            tools=[read_config, check],
            governance=GovernancePolicy(redact_outbound=redact),
        )
        events = [event async for event in agent.stream(f"Is {quote(KEY + '/', safe='')} fine?")]
        await agent.aclose()
    assert events[-1].type == "run.finished"
    sent = b"\n".join(request.raw for request in server.requests).decode()
    secrets = [TOKEN, KEY, base64.b64encode(KEY.encode()).decode().rstrip("=")]
    assert [secret in sent for secret in secrets] == [not redact] * 3
    assert ("[REDACTED_anthropic_key]" in sent) == redact
    kept = repr(events)
    assert TOKEN in kept
    # The tool got what the model wrote, not what the model is shown of it later.
    assert f"{len(TOKEN)} characters" in kept


async def test_a_loop_agent_keeps_the_same_promise() -> None:
    async with ModelServer([*SCRIPT, "Again."]) as server:
        agent = LoopAgent(
            provider(server),
            tool_registry=ToolRegistry([read_config, check]),
            config=AgentConfig(governance=GovernancePolicy(redact_outbound=True)),
        )
        turn = await agent.run_turn([ChatMessage(Role.USER, f"My key is {KEY}.")])
        assert turn.reply == "All is well."
        assert turn.messages is not None
        again = await agent.run_turn([*turn.messages, ChatMessage(Role.USER, "Again?")])
    assert again.reply == "Again."
    sent = b"\n".join(request.raw for request in server.requests).decode()
    assert TOKEN not in sent
    assert KEY not in sent
    assert TOKEN in repr(turn.messages)


async def test_each_message_is_scrubbed_once_and_kept_with_its_original() -> None:
    inner = ScriptedProvider(["a", "b", "c"])
    outer, other = ScrubbedProvider(inner, Scrubber(["hunter2hunter2"])), ScrubbedProvider(inner)
    plain, secret = ChatMessage(Role.USER, "Hello"), ChatMessage(Role.USER, "It is hunter2hunter2.")
    await outer.chat([plain, secret])
    _ = [event async for event in outer.chat_stream([plain, secret])]
    first, second = (request.messages for request in inner.requests)
    assert first[0] is second[0] is plain
    assert first[1] is second[1]
    assert first[1].content == "It is [REDACTED]."
    await other.chat([secret])  # another scrubber has its own opinion
    assert inner.requests[-1].messages == (secret,)
    assert secret == ChatMessage(Role.USER, "It is hunter2hunter2.")


async def test_every_part_of_a_message_that_is_text_is_scrubbed() -> None:
    secret = "hunter2hunter2"
    inner = ScriptedProvider(["ok"])
    message = ChatMessage(
        Role.ASSISTANT,
        [
            TextPart(f"say {secret}"),
            ThinkingPart(f"think {secret}", "c2ln", origin="anthropic"),
            ThinkingPart("think", "c2ln"),
            ThinkingPart(data="b3BhcXVl"),
            OpaquePart("anthropic", '{"query": "\\u0068unter2hunter2"}'),
            OpaquePart("anthropic", '{"query":  "fine"}'),
            CallPart(0),
            ImagePart("https://example.com/a.png"),
        ],
        [ToolCall("c1", "login", '{"password":"x", "note":"\\u0068unter2hunter2"}', "sig")],
    )
    result = ChatMessage(Role.TOOL, f"got {secret}", tool_call_id="c1", name="login", is_error=True)
    await ScrubbedProvider(inner, Scrubber([secret])).chat([message, result])
    sent = inner.requests[0].messages
    assert sent[0].content == (
        TextPart("say [REDACTED]"),
        ThinkingPart("think [REDACTED]", origin="anthropic"),
        ThinkingPart("think", "c2ln"),
        ThinkingPart(data="b3BhcXVl"),
        OpaquePart("anthropic", '{"query":"[REDACTED]"}'),
        OpaquePart("anthropic", '{"query":  "fine"}'),
        CallPart(0),
        ImagePart("https://example.com/a.png"),
    )
    assert sent[0].tool_calls == (ToolCall("c1", "login", '{"password":"x","note":"[REDACTED]"}', "sig"),)
    assert sent[1] == ChatMessage(Role.TOOL, "got [REDACTED]", tool_call_id="c1", name="login", is_error=True)


async def test_options_go_as_they_are_and_settings_only_when_given() -> None:
    class Old:
        """A provider from before settings, without a way to close it."""

        def __init__(self) -> None:
            self.asked: list[Any] = []

        async def chat(self, messages: Any, *, tools: Any = None, model: Any = None) -> Any:
            self.asked.append((tools, model))
            return "reply"

    old = Old()
    outer = ScrubbedProvider(old)  # type: ignore[arg-type]
    assert await outer.chat([], model="m") == "reply"  # type: ignore[comparison-overlap]
    await outer.aclose()
    assert old.asked == [(None, "m")]
    inner = ScriptedProvider(["a"])
    await ScrubbedProvider(inner).chat([], settings=ModelSettings(temperature=0.0))
    assert inner.requests[0].settings == ModelSettings(temperature=0.0)


async def test_a_provider_tells_its_secrets_to_who_scrubs_for_it() -> None:
    service = OpenAICompatibleProvider(
        "http://localhost:1/v1?api_key=in-the-query",
        KEY,
        headers={"X-Auth-Token": "in-a-header", "X-Team": "blue"},
    )
    outer = scrubbed(service)
    assert scrubbed(outer) is outer
    assert set(outer.secrets()) == set(secrets_of(service)) == {KEY, "in-the-query", "in-a-header"}
    assert secrets_of(ScriptedProvider()) == secrets_of(object()) == []
    several = RoutedProvider(
        {"a": FallbackProvider([ScriptedProvider(), service]), "b": outer}, lambda m: None
    )
    assert set(secrets_of(several)) == {KEY, "in-the-query", "in-a-header"}
    await outer.aclose()


def test_the_policy_has_the_field_and_is_off_by_default() -> None:
    assert not GovernancePolicy().redact_outbound
    assert GovernancePolicy.default(redact_outbound=True).redact_outbound
