"""Recorded traffic: a run replays to the same result without a server, leaves it loudly, and holds no secret."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec import structs

from loom import Agent, tool
from loom.config import Generation
from loom.errors import (
    ContextOverflowError,
    LoomError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    RecordingDamaged,
    ReplayDiverged,
)
from loom.llm.anthropic import AnthropicProvider
from loom.llm.base import ContentDeltaEvent, LLMProvider, ModelSettings, ProviderEvent, ToolCallDeltaEvent
from loom.llm.fallback import FallbackProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.testing import ModelServer, ScriptedProvider, call, interrupted, record, replay, say
from loom.testing.recorded import timeless
from loom.types import ChatMessage, ChatResponse, ImagePart, Role, RunState, ToolCall, ToolSpec, Usage

HELLO = [ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, "Hello")]
KEY = "kf83-Hj29-vault-of-keys"
ADD = ToolSpec("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})


@tool(read_only=True)
def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


@tool(read_only=True)
def look(path: str) -> str:
    """Look at a path."""
    return f"{path}: 3 files"


def agent(provider: LLMProvider, **options: Any) -> Agent[Any, Any]:
    return Agent(**{"model": provider, "tools": [add, look], "instructions": "Work.", **options})


def openai(server: ModelServer) -> LLMProvider:
    return OpenAICompatibleProvider(server.base_url, KEY, "m")


def anthropic(server: ModelServer) -> LLMProvider:
    return AnthropicProvider(KEY, "m", base_url=server.base_url)


SCRIPT = [
    say("Let me see.", call("add", a=1, b=2), call("look", path="/tmp/日本")),
    [call("add", a=3, b=4)],
    say("It is 7. 🌍", usage=Usage(120, 30, 40, 0)),
]

# What differs between any two runs.
VOLATILE = {"duration_ms", "idempotency_key", "session_id", "task"}


def told(events: Sequence[Any]) -> list[Any]:
    """The events without what differs between any two runs."""
    plain = [(event.type, event.payload) for event in events]
    return [
        (kind, {name: value for name, value in payload.items() if name not in VOLATILE})
        for kind, payload in plain
    ]


async def events_of(provider: LLMProvider, **options: Any) -> list[Any]:
    return [event async for event in agent(provider, **options).stream("What is 3 and 4?")]


# --- there and back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [openai, anthropic])
async def test_a_run_replays_to_the_same_events_without_a_server(wire: Any, tmp_path: Path) -> None:
    async with (
        ModelServer(SCRIPT, chunk=3) as server,
        record(wire(server), tmp_path / "run.jsonl") as recorded,
    ):
        first = await events_of(recorded)
    async with replay(tmp_path / "run.jsonl") as provider:
        second = await events_of(provider)
        assert provider.remaining == 0
    assert told(first) == told(second)
    assert [event.type for event in first].count("text.delta") >= 8
    assert first[-1].type == "run.finished"


async def test_a_run_that_was_not_streamed_replays_to_the_same_result(tmp_path: Path) -> None:
    async with ModelServer(SCRIPT) as server, record(openai(server), tmp_path / "run.jsonl") as recorded:
        first = await agent(recorded).run("What is 3 and 4?")
    for _ in range(2):  # a recording is not used up
        async with replay(str(tmp_path / "run.jsonl")) as provider:
            second = await agent(provider).run("What is 3 and 4?")
        assert (first.output, first.usage, first.state) == (second.output, second.usage, second.state)
    assert first.output == "It is 7. 🌍"


async def test_every_event_of_a_stream_comes_back_as_it_was_cut(tmp_path: Path) -> None:
    reply = say("Hello there", ToolCall("c", "add", '{"a": 1}', "sig"), thinking="hm, well", signature="c2ln")
    inner = ScriptedProvider([reply], chunk=2)
    recorded = record(inner, tmp_path / "r")
    first = [event async for event in recorded.chat_stream(HELLO, tools=[ADD], model="m")]
    second = [event async for event in replay(tmp_path / "r").chat_stream(HELLO, tools=[ADD], model="m")]
    assert first == second
    assert second[-1] == reply


async def test_what_was_streamed_can_be_asked_for_whole_and_the_other_way_round(tmp_path: Path) -> None:
    reply = say("Hello there", ToolCall("c", "add", "{}"))
    recorded = record(ScriptedProvider([reply, reply], chunk=4), tmp_path / "r")
    _ = [event async for event in recorded.chat_stream(HELLO)]
    await recorded.chat(HELLO, model="m")
    provider = replay(tmp_path / "r")
    assert await provider.chat(HELLO) == reply
    events = [event async for event in provider.chat_stream(HELLO, model="m")]
    assert events[0] == ContentDeltaEvent("Hello there")
    assert events[-1] == reply
    provider.assert_finished()


async def test_a_stream_without_a_whole_reply_is_put_together(tmp_path: Path) -> None:
    class Bare(ScriptedProvider):
        async def chat_stream(self, messages: Any, **options: Any) -> Any:
            async for event in super().chat_stream(messages, **options):
                if not isinstance(event, ChatResponse):
                    yield event

    recorded = record(Bare(["Hello"], chunk=2), tmp_path / "r")
    assert len([event async for event in recorded.chat_stream(HELLO)]) == 3
    assert (await replay(tmp_path / "r").chat(HELLO)).message == ChatMessage(Role.ASSISTANT, "Hello")


async def test_runs_recorded_side_by_side_replay_in_any_order(tmp_path: Path) -> None:
    def answer(messages: Sequence[ChatMessage], tools: Any) -> Any:
        last = messages[-1]
        if last.role is Role.TOOL:
            return f"It is {last.content}."
        return call("add", a=int(str(last.content).split()[-1]), b=1)

    async def both(provider: LLMProvider, goals: Sequence[str]) -> list[Any]:
        return [run.output for run in await asyncio.gather(*(agent(provider).run(goal) for goal in goals))]

    goals = [f"one more than {number}" for number in range(5)]
    recorded = record(ScriptedProvider([answer] * 10), tmp_path / "r")
    first = await both(recorded, goals)
    async with replay(tmp_path / "r") as provider:
        assert await both(provider, goals[::-1]) == first[::-1]
    assert first[0] == "It is 1."


async def test_equal_requests_are_answered_in_the_order_of_the_recording(tmp_path: Path) -> None:
    recorded = record(ScriptedProvider([RateLimitError("slow"), "second", "third"]), tmp_path / "r")
    with pytest.raises(RateLimitError):
        await recorded.chat(HELLO)
    assert [(await recorded.chat(HELLO)).message.content for _ in range(2)] == ["second", "third"]
    async with replay(tmp_path / "r") as provider:
        with pytest.raises(RateLimitError):
            await provider.chat(HELLO)
        assert [(await provider.chat(HELLO)).message.content for _ in range(2)] == ["second", "third"]


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("slow", status=429, retry_after=7.5, provider_code="rate", request_id="req_1"),
        ProviderUnavailableError("down", retryable=False),
        ContextOverflowError("too long", status=400),
        ProviderError("odd", status=402),
    ],
)
@pytest.mark.parametrize("after", [0, 2])
async def test_errors_come_back_typed_and_in_their_place(
    error: LoomError, after: int, tmp_path: Path
) -> None:
    recorded = record(
        ScriptedProvider([interrupted("abcdef", after=after, error=error)], chunk=2), tmp_path / "r"
    )

    async def outcome(provider: LLMProvider) -> tuple[list[ProviderEvent], Any]:
        events: list[ProviderEvent] = []
        try:
            async for event in provider.chat_stream(HELLO):
                events.append(event)  # noqa: PERF401 - they must be there when it fails
        except LoomError as found:
            return events, (type(found), str(found), found.retryable, found.info())
        raise AssertionError("it did not fail")

    first = await outcome(recorded)
    provider = replay(tmp_path / "r")
    assert await outcome(provider) == first
    assert len(first[0]) == after
    provider.assert_finished()


async def test_attempts_of_a_fallback_come_back_without_their_times(tmp_path: Path) -> None:
    ticks = iter(range(100))
    fallback = FallbackProvider(
        [
            ScriptedProvider([RateLimitError("one"), RateLimitError("two")]),
            ScriptedProvider(["ok", RateLimitError("no")]),
        ],
        clock=lambda: float(next(ticks)),
    )
    recorded = record(fallback, tmp_path / "r")
    reply = await recorded.chat(HELLO)
    with pytest.raises(RateLimitError) as first:
        await recorded.chat(HELLO)
    assert [attempt.duration for attempt in reply.attempts] == [1.0, 1.0]
    provider = replay(tmp_path / "r")
    again = await provider.chat(HELLO)
    with pytest.raises(RateLimitError) as second:
        await provider.chat(HELLO)
    assert again == structs.replace(reply, attempts=timeless(reply.attempts))
    assert len(second.value.attempts) == 2
    assert second.value.attempts == timeless(first.value.attempts)


async def test_an_error_that_is_none_of_ours_is_told_as_the_run_told_it(tmp_path: Path) -> None:
    recorded = record(ScriptedProvider([ValueError("odd"), ValueError("odd")]), tmp_path / "r")
    with pytest.raises(ValueError, match="odd"):
        await recorded.chat(HELLO)
    first = await agent(recorded).run("x")
    provider = replay(tmp_path / "r")
    with pytest.raises(ProviderError, match="the provider failed: ValueError: odd"):
        await provider.chat(HELLO)
    second = await agent(provider).run("x")
    assert first.error is not None
    assert second.error is not None
    assert (first.error.code, first.error.message) == (second.error.code, second.error.message)


async def test_a_reply_nobody_waited_for_is_not_made_up(tmp_path: Path) -> None:
    entered = asyncio.Event()

    async def for_ever(seconds: float) -> None:
        entered.set()
        await asyncio.Event().wait()

    recorded = record(ScriptedProvider(["never"], latency=1, sleep=for_ever), tmp_path / "r")
    task = asyncio.create_task(recorded.chat(HELLO))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ReplayDiverged, match="went away before the reply"):
        await replay(tmp_path / "r").chat(HELLO)


async def test_a_stream_closed_early_replays_as_far_as_it_was_read(tmp_path: Path) -> None:
    recorded = record(ScriptedProvider(["abcdef", "abcdef"], chunk=2), tmp_path / "r")
    stream: Any = recorded.chat_stream(HELLO)
    assert [await anext(stream), await anext(stream)] == [ContentDeltaEvent("ab"), ContentDeltaEvent("cd")]
    await stream.aclose()
    async for event in recorded.chat_stream(HELLO, model="m"):
        if isinstance(event, ChatResponse):
            break  # it is complete, though nobody read to the end
    provider = replay(tmp_path / "r")
    again: Any = provider.chat_stream(HELLO)
    assert [await anext(again), await anext(again)] == [ContentDeltaEvent("ab"), ContentDeltaEvent("cd")]
    with pytest.raises(ReplayDiverged, match="went away"):
        await anext(again)
    assert (await provider.chat(HELLO, model="m")).message.content == "abcdef"


# --- leaving the recording --------------------------------------------------------------------------------


@pytest.fixture
async def recording(tmp_path: Path) -> Path:
    recorded = record(ScriptedProvider(SCRIPT), tmp_path / "run.jsonl")
    result = await agent(recorded).run("What is 3 and 4?")
    assert result.ok
    return tmp_path / "run.jsonl"


@tool(name="add", read_only=True)
def wrong_add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a * b)


@tool(name="add", read_only=True)
def other_add(a: int, b: int) -> str:
    """Add two whole numbers."""
    return str(a + b)


DIVERGING: dict[str, tuple[dict[str, Any], str, int, str, str]] = {
    "instructions": (
        {"instructions": "Play."},
        "What is 3 and 4?",
        1,
        "messages[0].content",
        "'Work.' and is 'Play.'",
    ),
    "goal": (
        {},
        "What is 3 and 5?",
        1,
        "messages[1].content",
        "'What is 3 and 4?' and is 'What is 3 and 5?'",
    ),
    "result of a tool": (
        {"tools": [wrong_add, look]},
        "What is 3 and 4?",
        2,
        "messages[3].content",
        "'3' and is '2'",
    ),
    "description": ({"tools": [other_add, look]}, "What is 3 and 4?", 1, "tools[0].description", "whole"),
    "fewer tools": ({"tools": [add]}, "What is 3 and 4?", 1, "tools[1].name", "'look'"),
    "settings": (
        {"generation": Generation(temperature=0.5)},
        "What is 3 and 4?",
        1,
        "settings",
        "nothing and is {'temperature': 0.5}",
    ),
}


@pytest.mark.parametrize("case", DIVERGING)
async def test_the_first_request_that_differs_is_named_with_its_field(case: str, recording: Path) -> None:
    options, goal, number, field, shown = DIVERGING[case]
    provider = replay(recording)
    result = await agent(provider, **options).run(goal)
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "replay_diverged"
    with pytest.raises(ReplayDiverged) as caught:
        await provider.__aexit__(None, None, None)
    assert (caught.value.request, caught.value.field) == (number, field)
    assert f"request {number} is not the one in run.jsonl: {field} was " in str(caught.value)
    assert shown in str(caught.value)


async def test_one_request_too_many_is_named(recording: Path) -> None:
    async with replay(recording) as provider:
        await agent(provider).run("What is 3 and 4?")
    with pytest.raises(ReplayDiverged, match=r"has 3 exchanges, and this is request 4.*Hello"):
        await provider.chat(HELLO)


async def test_requests_that_never_came_are_named(recording: Path) -> None:
    with pytest.raises(ReplayDiverged, match=r"0 of 3 recorded requests were made.*What is 3 and 4"):
        async with replay(recording):
            pass
    provider = replay(recording)
    provider.requests = 0
    await agent(provider).run("What is 3 and 4?")
    provider.assert_finished()


async def test_an_error_in_the_block_is_not_hidden_by_the_recording(recording: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with replay(recording):
            _ = 1 / 0


async def test_long_texts_are_told_from_where_they_differ(tmp_path: Path) -> None:
    long = "x" * 5000
    recorded = record(ScriptedProvider(["ok"]), tmp_path / "r")
    await recorded.chat([ChatMessage(Role.USER, long + "one" + long)])
    with pytest.raises(ReplayDiverged) as caught:
        await replay(tmp_path / "r").chat([ChatMessage(Role.USER, long + "two" + long)])
    assert "xone" in str(caught.value)
    assert "xtwo" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "extra", [{"extensions": {"seed": 1}}, {"extensions": {"seed": True}}, {"max_output_tokens": 2}]
)
async def test_settings_are_compared_in_depth(extra: dict[str, Any], tmp_path: Path) -> None:
    settings = ModelSettings(temperature=0.0, extensions={"seed": 2, "stop": ["a"]})
    recorded = record(ScriptedProvider(["ok"]), tmp_path / "r")
    await recorded.chat(HELLO, settings=settings)
    with pytest.raises(ReplayDiverged, match="settings"):
        await replay(tmp_path / "r").chat(HELLO, settings=ModelSettings(temperature=0.0, **extra))
    equal = ModelSettings(temperature=0.0, extensions={"stop": ["a"], "seed": 2})
    assert (await replay(tmp_path / "r").chat(HELLO, settings=equal)).message.content == "ok"


# --- secrets ----------------------------------------------------------------------------------------------

FORMAT = "sk-ant-api03-" + "aB3dE5fG7h" * 4
GIVEN = "correct horse battery"
AMBIENT = "ambient-value-19"
SECRETS = [KEY, FORMAT, GIVEN, AMBIENT]


def forms(secret: str) -> list[bytes]:
    """What must not be in the file; a secret that nobody told us of is only known in plain."""
    octets = secret.encode()
    if secret == FORMAT:
        return [octets]
    texts = [secret, quote(secret, safe=""), octets.hex(), octets.hex().upper(), secret[::-1]]
    texts += [base64.b64encode(b"x" * shift + octets).decode()[4:-4] for shift in range(3)]
    return [text.encode() for text in texts]


@tool(read_only=True)
def leak(which: str) -> str:
    """Say a secret."""
    secret = SECRETS[int(which)]
    return f"plain {secret}, hex {secret.encode().hex()}, base64 {base64.b64encode(secret.encode()).decode()}"


def secretive(secret: str) -> list[Any]:
    return [
        say(
            f"Thinking of {secret}", call("leak", which="0"), call("leak", which="1"), thinking=f"hm {secret}"
        ),
        [
            call("leak", which="2"),
            call("leak", which="3"),
            ToolCall("c9", "look", json.dumps({"path": secret})),
        ],
        [ToolCall("c10", "look", '{"path": "\\u' + "\\u".join(f"{ord(c):04x}" for c in secret) + '"}')],
        interrupted(f"nearly {secret} there", after=9, error=RateLimitError(f"refused {secret}")),
    ]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("chunk", [1, 5, None])
async def test_no_secret_is_in_the_file_and_it_replays_all_the_same(
    secret: str, streamed: bool, chunk: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "r"
    environ = {"OTHER_API_KEY": AMBIENT, "SHORT_API_KEY": "plain", "HOME": "/home/me"}

    async def run(provider: LLMProvider) -> list[Any]:
        declared = agent(provider, instructions=f"Never say {secret}", tools=[leak, look])
        goal = f"plain {secret} and {quote(secret, safe='')}"
        if not streamed:
            return [(await declared.run(goal)).error]
        # A delta of reasoning that held nothing but a secret is empty now, and not shown.
        return [event.type async for event in declared.stream(goal) if not event.type.endswith(".delta")]

    class Keyed(ScriptedProvider):
        def secrets(self) -> list[str]:
            return [KEY]

    inner = Keyed(secretive(secret), chunk=chunk)
    first = await run(record(inner, path, secrets=[GIVEN], environ=environ))
    content = path.read_bytes()
    for planted in SECRETS:
        assert [form for form in forms(planted) if form in content] == []
    assert b"plain" in content
    assert b"[REDACTED" in content
    async with replay(path, secrets=[GIVEN, KEY], environ=environ) as provider:
        second = await run(provider)
    if streamed:
        assert first == second
    # Where a given secret was, anything may stand: the recording replays on a machine without them.
    async with replay(path, environ={}) as provider:
        await run(provider)


async def test_a_secret_cut_over_many_deltas_leaves_no_piece(tmp_path: Path) -> None:
    recorded = record(ScriptedProvider([f"It is {GIVEN}, see."], chunk=3), tmp_path / "r", secrets=[GIVEN])
    first = [event async for event in recorded.chat_stream(HELLO)]
    events = [event async for event in replay(tmp_path / "r").chat_stream(HELLO)]
    assert len(events) == len(first)
    said = [event.delta for event in events if isinstance(event, ContentDeltaEvent)]
    assert "".join(said) == "It is [REDACTED], see."
    assert said[:2] == ["It ", "is "]
    assert "".join(said[2:-2]) == "[REDACTED]"


async def test_arguments_stay_json_and_agree_with_their_pieces(tmp_path: Path) -> None:
    arguments = '{"password": "it\'s \\"quoted\\"", "note": "' + GIVEN + '"}'
    reply = say("", ToolCall("c", "login", arguments))
    recorded = record(ScriptedProvider([reply], chunk=4), tmp_path / "r", secrets=[GIVEN])
    _ = [event async for event in recorded.chat_stream(HELLO)]
    events = [event async for event in replay(tmp_path / "r").chat_stream(HELLO)]
    pieces = [event.arguments_delta or "" for event in events if isinstance(event, ToolCallDeltaEvent)]
    whole = events[-1]
    assert isinstance(whole, ChatResponse)
    assert whole.message.tool_calls is not None
    assert "".join(pieces) == whole.message.tool_calls[0].arguments
    assert json.loads("".join(pieces)) == {"password": "[REDACTED_field]", "note": "[REDACTED]"}


async def test_the_file_is_for_its_user_alone_and_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("what was here before\n")
    path.chmod(0o644)
    recorded = record(ScriptedProvider(["ok"]), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await recorded.chat(HELLO)
    lines = path.read_bytes().splitlines()
    assert lines[0] == b'{"loom_recording":1}'
    assert len(lines) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- files ------------------------------------------------------------------------------------------------


async def test_each_line_is_there_when_its_exchange_is_over(tmp_path: Path) -> None:
    recorded = record(ScriptedProvider(["a", "b"]), tmp_path / "r")
    for count in (1, 2):
        await recorded.chat(HELLO)
        assert replay(tmp_path / "r").remaining == count


async def test_a_recording_that_was_cut_anywhere_in_its_last_line_is_usable(
    recording: Path, tmp_path: Path
) -> None:
    whole = recording.read_bytes()
    last = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    cut = tmp_path / "cut"
    for end in range(last, len(whole)):
        cut.write_bytes(whole[:end])
        assert replay(cut).remaining == 2
    cut.write_bytes(whole[:-1])
    with pytest.raises(
        ReplayDiverged, match="has 2 exchanges, and its last line is cut, and this is request 3"
    ):
        async with replay(cut) as provider:
            await agent(provider).run("What is 3 and 4?")


DAMAGE: list[tuple[Callable[[list[bytes]], list[bytes]], str]] = [
    (lambda lines: [], "line 1: no recording"),
    (lambda lines: lines[1:], "line 1: no recording"),
    (lambda lines: [b"{}", *lines[1:]], "line 1: no recording"),
    (lambda lines: [b'{"loom_recording":2}', *lines[1:]], "version 2, and this Loom reads 1"),
    (lambda lines: [lines[0], lines[1][:50], *lines[2:]], "line 2: "),
    (lambda lines: [*lines[:2], b"", *lines[2:]], "line 3: "),
    (lambda lines: [*lines, b'{"request":[]}'], "line 5: "),
    (lambda lines: [*lines, b'{"request":{},"events":[{"type":"unknown"}]}'], "line 5: "),
    (lambda lines: [*lines, b'{"request":{},"reply":{"message":{"role":"nobody"}}}'], "line 5: "),
    (lambda lines: [*lines, b"\xff\xfe\x00"], "line 5: "),
    (lambda lines: [*lines, b"[" * 100_000], "line 5: "),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGE)
def test_a_damaged_file_is_named_with_its_line(damage: Any, said: str, recording: Path) -> None:
    lines = recording.read_bytes().splitlines()
    recording.write_bytes(b"".join(line + b"\n" for line in damage(lines)))
    with pytest.raises(RecordingDamaged, match=said) as caught:
        replay(recording)
    assert str(recording) in str(caught.value)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        record(ScriptedProvider(), tmp_path / "no" / "folder")


async def test_what_no_file_can_hold_is_recorded_and_compared_all_the_same(tmp_path: Path) -> None:
    odd = [
        ChatMessage(Role.USER, [ImagePart("data:image/png;base64,iVBORw0KGgo=")]),
        ChatMessage(Role.USER, "a\ud800b\x00"),
    ]
    recorded = record(ScriptedProvider(["c\udfffd"]), tmp_path / "r")
    await recorded.chat(odd)
    assert (await replay(tmp_path / "r").chat(odd)).message.content == "c�d"


async def test_the_recorded_provider_is_closed_with_the_recording(tmp_path: Path) -> None:
    inner = ScriptedProvider(["a"])
    async with record(inner, tmp_path / "r"):
        assert not inner.closed
    assert inner.closed


def test_importing_is_cheap() -> None:
    code = "import sys, loom.testing; loom.testing.replay; print('aiohttp' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
