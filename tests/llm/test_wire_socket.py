"""Every adapter over a real socket: same message whole and streamed, failures, retries, closing."""

import asyncio
import gc
import resource
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from wires import ADD, HELLO, KEY, WIRES, Waits, anthropic, gemini, keep, last, openai, responses, streamed

from loom.errors import (
    AuthenticationError,
    ConfigError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.base import ContentDeltaEvent, ThinkingDeltaEvent, ToolCallDeltaEvent
from loom.llm.wire import HTTPProvider
from loom.testing.model_server import ModelServer, served
from loom.testing.scripted import call, interrupted, say
from loom.types import (
    ChatMessage,
    ChatResponse,
    Role,
    StopReason,
    TextPart,
    ThinkingPart,
    ToolCall,
    Usage,
)

Wire = Callable[..., HTTPProvider]
both = pytest.mark.parametrize("wire", WIRES)

REPLY = say(
    "Hellö 🌍, here is the answer.",
    ToolCall("call_a", "add", '{"a":1,"b":"日本"}'),
    ToolCall("call_b", "add", "{}"),
    usage=Usage(120, 30, 40, 0),
)


@both
@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 6, 7, None])
async def test_whole_and_streamed_are_one_message(wire: Wire, piece: int | None) -> None:
    script = [served(REPLY, piece=piece), served(REPLY, piece=piece)]
    async with ModelServer(script, chunk=3) as server, wire(server.base_url) as provider:
        whole = await provider.chat(HELLO, tools=[ADD])
        events = await streamed(provider, tools=[ADD])
    assert whole == events[-1]
    assert whole.message == REPLY.message
    assert whole.usage == REPLY.usage
    assert whole.stop_reason is StopReason.TOOL_USE
    said = "".join(event.delta for event in events if isinstance(event, ContentDeltaEvent))
    assert said == "Hellö 🌍, here is the answer."
    pieces = [event for event in events if isinstance(event, ToolCallDeltaEvent) and event.index == 0]
    assert "".join(event.arguments_delta or "" for event in pieces) == '{"a":1,"b":"日本"}'
    assert [event.name for event in pieces if event.name] == ["add"]


@both
async def test_thinking_comes_first_and_is_kept(wire: Wire) -> None:
    reply = say("Four.", thinking="two and two", signature="c2ln" if wire in (anthropic, gemini) else None)
    # Two servers, since one numbers what it says.
    async with ModelServer([reply]) as server, wire(server.base_url) as provider:
        whole = await provider.chat(HELLO)
    async with ModelServer([reply], chunk=2) as server, wire(server.base_url) as provider:
        events = await streamed(provider)
    assert whole == events[-1]
    thought, *_, text = whole.message.content or ()
    assert isinstance(thought, ThinkingPart)
    signature = "rs_1_0" if wire is responses else reply.message.content[0].signature  # type: ignore[index, union-attr]
    assert replace(thought, origin=None) == ThinkingPart("two and two", signature)
    assert text == TextPart("Four.")
    assert isinstance(events[0], ThinkingDeltaEvent)


@both
@pytest.mark.parametrize("stop", [StopReason.STOP, StopReason.LENGTH, StopReason.REFUSAL, StopReason.UNKNOWN])
async def test_stop_reasons_arrive(wire: Wire, stop: StopReason) -> None:
    reply = say("No.", stop_reason=stop)
    async with ModelServer([reply, reply]) as server, wire(server.base_url) as provider:
        whole = await provider.chat(HELLO)
        assert await last(provider) == whole
    if wire is gemini and stop is StopReason.REFUSAL:
        stop = StopReason.CONTENT_FILTER  # the wire knows no refusal, only filters
    assert (whole.stop_reason, whole.message.content) == (stop, "No.")


# --- failures -----------------------------------------------------------------------------------------


def html(status: int) -> Any:
    body = b"<!DOCTYPE html><html><title>Bad gateway</title></html>"
    return served(status=status, body=body, headers={"Content-Type": "text/html"})


def said(status: int, body: str, **headers: str) -> Any:
    return served(status=status, body=body.encode(), headers=headers)


NOT_VALID = '[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]'
TOO_LONG = '{"error":{"type":"invalid_request_error","message":"prompt is too long: 250000 > 200000"}}'
TOO_MUCH = '{"error":{"message":"max_tokens is too large: 90000. This model supports at most 16384"}}'
FAILURES: list[tuple[Any, type[LoomError], str]] = [
    (said(401, '{"error":{"message":"bad key"}}'), AuthenticationError, "bad key"),
    (said(403, "nope"), AuthenticationError, "nope"),
    (
        said(400, '{"error":{"message":"unknown field x","code":"bad_field"}}'),
        InvalidRequestError,
        "bad_field",
    ),
    (said(404, '{"detail":"Not Found"}'), InvalidRequestError, "Not Found"),
    (
        said(422, '{"detail":[{"loc":["body"],"msg":"field required"}]}'),
        InvalidRequestError,
        "field required",
    ),
    (said(402, '{"error":{"message":"Insufficient Balance"}}'), ProviderError, "asks for payment"),
    (said(400, '{"code":"invalid","error":"Incorrect API key provided."}'), AuthenticationError, "Incorrect"),
    (said(400, NOT_VALID), AuthenticationError, "not valid"),
    (
        said(400, '{"error":{"message":"no","code":"context_length_exceeded"}}'),
        ContextOverflowError,
        "too long",
    ),
    (said(400, TOO_LONG), ContextOverflowError, "250000"),
    (said(413, "{}"), ContextOverflowError, "413"),
    (said(400, TOO_MUCH), InvalidRequestError, "16384"),
    (said(429, '{"error":{"message":"over quota","code":"insufficient_quota"}}'), RateLimitError, "quota"),
    (said(503, "", **{"x-should-retry": "false"}), ProviderUnavailableError, "no reason"),
    (html(404), InvalidRequestError, "is base_url right"),
    (html(200), MalformedReplyError, "is not a (message|chat completion|response)|is no Gemini reply"),
    (
        said(302, "", Location="http://evil.example/v1?x=1"),
        ProviderError,
        "redirects to http://evil.example/v1 ",
    ),
    (said(307, "", Location="/elsewhere"), ProviderError, "not followed"),
    (said(200, '{"error":{"message":"no such model","code":404}}'), InvalidRequestError, "no such model"),
    (
        said(200, '{"error":{"type":"permission_error","message":"not yours"}}'),
        AuthenticationError,
        "not yours",
    ),
]


@both
@pytest.mark.parametrize(("item", "kind", "text"), FAILURES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_one_typed_error_and_is_not_retried(
    wire: Wire, item: Any, kind: type[LoomError], text: str, stream: bool
) -> None:
    waits = Waits()
    async with ModelServer([item, "never"]) as server, wire(server.base_url, sleep=waits) as provider:
        with pytest.raises(LoomError, match=text) as caught:
            await (streamed(provider) if stream else provider.chat(HELLO))
        assert type(caught.value) is kind
        assert (len(server.requests), waits) == (1, [])
    assert len(str(caught.value)) <= 500


@both
async def test_a_redirect_never_takes_the_key_along(wire: Wire) -> None:
    async with ModelServer(["stolen"]) as thief:
        item = served(status=308, headers={"Location": thief.base_url + "/chat/completions"})
        async with ModelServer([item]) as server, wire(server.base_url) as provider:
            with pytest.raises(ProviderError, match="redirects are not followed"):
                await provider.chat(HELLO)
        assert thief.requests == []


RETRIED: list[Any] = [
    served(status=429, body=b'{"error":{"message":"slow down"}}'),
    served(status=500, body=b"oops"),
    served(status=502, body=b"<html>bad gateway</html>"),
    served(status=529, body=b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'),
    served(status=408),
    served(status=409),
    served("cut before anything", cut_at=0),
]


@both
@pytest.mark.parametrize("item", RETRIED)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_may_pass_is_asked_again(wire: Wire, item: Any, stream: bool) -> None:
    waits = Waits()
    script = [item, item, "At last."]
    async with (
        ModelServer(script) as server,
        wire(server.base_url, sleep=waits, rand=lambda: 1.0) as provider,
    ):
        response = await (last(provider) if stream else provider.chat(HELLO))
    assert response.message.content == "At last."
    assert waits == [0.5, 1.0]
    assert server.requests[0].raw == server.requests[2].raw


@both
async def test_retries_end_and_the_last_error_goes_up(wire: Wire) -> None:
    script = [served(status=500, body=b"%d" % number) for number in range(5)]
    async with ModelServer(script) as server, wire(server.base_url, max_retries=3) as provider:
        with pytest.raises(ProviderUnavailableError, match=r"HTTP 500.*: 3$") as caught:
            await provider.chat(HELLO)
        assert len(server.requests) == 4
    assert caught.value.status == 500
    assert caught.value.retryable


@both
async def test_retry_after_is_obeyed_and_a_long_one_goes_up(wire: Wire) -> None:
    waits = Waits()
    script = [
        served(status=429, headers={"Retry-After": "7"}),
        served(status=503, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
        served(status=429, headers={"Retry-After": "3600", "request-id": "req_9"}),
    ]
    async with (
        ModelServer(script) as server,
        wire(server.base_url, sleep=waits, rand=lambda: 0.0, max_retries=5) as provider,
    ):
        with pytest.raises(RateLimitError) as caught:
            await provider.chat(HELLO)
    assert waits == [7.0, 0.0]
    assert (caught.value.retry_after, caught.value.request_id) == (3600.0, "req_9")


@both
async def test_nothing_is_asked_again_once_a_byte_was_shown(wire: Wire) -> None:
    script = [interrupted("Once upon a time", after=6), "never"]
    async with ModelServer(script, chunk=4) as server, wire(server.base_url) as provider:
        events: list[Any] = []
        with pytest.raises(ProviderUnavailableError, match="broke off"):
            await keep(events, provider)
        assert len(server.requests) == 1
    assert events
    assert not any(isinstance(event, ChatResponse) for event in events)


@both
async def test_a_stream_cut_anywhere_never_looks_like_a_reply(wire: Wire) -> None:
    async with ModelServer([REPLY], chunk=4) as server, wire(server.base_url) as provider:
        expected = await last(provider)
    shapes: set[str] = set()
    for cut_at in range(0, 3200, 97):
        script = [served(REPLY, cut_at=cut_at)]
        async with ModelServer(script, chunk=4) as server, wire(server.base_url, max_retries=0) as provider:
            outcome = (await asyncio.gather(last(provider), return_exceptions=True))[0]
        shapes.add(type(outcome).__name__)
        if isinstance(outcome, ChatResponse):  # cut after the service had said that it was done
            assert outcome.message == expected.message
        else:
            assert isinstance(outcome, ProviderUnavailableError | MalformedReplyError)
            assert outcome.retryable
    assert "ProviderUnavailableError" in shapes


@both
async def test_silence_ends_in_an_error(wire: Wire) -> None:
    script = [served("Hello there", stall_at=200)]
    async with (
        ModelServer(script) as server,
        wire(server.base_url, timeout=0.05, max_retries=0) as provider,
    ):
        with pytest.raises(ProviderUnavailableError, match="did not answer in time"):
            await streamed(provider)
        await asyncio.wait_for(server.requests[0].abandoned.wait(), 5)


@both
async def test_a_service_that_is_not_there_is_unavailable(wire: Wire) -> None:
    waits = Waits()
    async with wire("http://127.0.0.1:9/v1", sleep=waits) as provider:
        with pytest.raises(ProviderUnavailableError, match=r"127\.0\.0\.1:9 could not be reached"):
            await provider.chat(HELLO)
    assert len(waits) == 2


# --- connections --------------------------------------------------------------------------------------


@both
async def test_closing_the_generator_closes_the_connection(wire: Wire) -> None:
    async with (
        ModelServer([served("Hello there, reader" * 9, stall_at=2500)], chunk=2) as server,
        wire(server.base_url) as provider,
    ):
        stream: Any = provider.chat_stream(HELLO)
        assert isinstance(await anext(stream), ContentDeltaEvent)
        await stream.aclose()
        await asyncio.wait_for(server.requests[0].abandoned.wait(), 5)


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_closes_the_connection(wire: Wire, stream: bool) -> None:
    async with ModelServer([served("Hello", stall_at=20)]) as server, wire(server.base_url) as provider:
        task = asyncio.create_task(streamed(provider) if stream else provider.chat(HELLO))  # type: ignore[arg-type]
        while not server.requests:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.requests[0].abandoned.wait(), 5)


@pytest.fixture
def many() -> Iterator[int]:
    """A thousand, or what this system allows: both ends of a connection are open files of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(soft, min(4096, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    yield min(1000, (allowed - 200) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@both
async def test_a_thousand_streams_at_once(wire: Wire, many: int) -> None:
    def echo(messages: list[Any], tools: Any) -> str:
        said = messages[-1].get("content") or messages[-1]["parts"]
        return f"heard {said if isinstance(said, str) else said[0]['text']}"

    async with ModelServer([echo] * many, chunk=3) as server, wire(server.base_url) as provider:
        asked = [[ChatMessage(Role.USER, f"number {number}")] for number in range(many)]
        replies = await asyncio.gather(*(last(provider, messages) for messages in asked))
    assert [r.message.content for r in replies] == [f"heard number {number}" for number in range(many)]


@both
async def test_connections_are_used_again(wire: Wire) -> None:
    async with ModelServer(["a", "b", "c", "d"]) as server, wire(server.base_url) as provider:
        for _ in range(2):
            await provider.chat(HELLO)
            await last(provider)
        from loom.llm.http import _held  # the one place that knows

        connector = _held[asyncio.get_running_loop()].session.connector
        assert connector is not None
        assert sum(len(idle) for idle in connector._conns.values()) == 1


async def test_providers_share_a_session_and_the_last_one_closes_it() -> None:
    from loom.llm.http import _held

    loop = asyncio.get_running_loop()
    async with ModelServer(["a", "b", "c"]) as server:
        one, two = openai(server.base_url), anthropic(server.base_url)
        await one.chat(HELLO)
        session = _held[loop].session
        await two.chat(HELLO)
        assert _held[loop].session is session
        await one.aclose()
        await one.aclose()
        assert not session.closed
        await two.aclose()
        assert session.closed
        assert loop not in _held
        assert (await two.chat(HELLO)).message.content == "c"
        await two.aclose()


HARD = "loop = asyncio.new_event_loop(); loop.run_until_complete(ask()); loop.close()"
ENDINGS = {
    "asyncio.run without aclose": "asyncio.run(ask())",
    "two loops": "asyncio.run(ask()); asyncio.run(ask())",
    "a loop closed the hard way": HARD,
    "a stream left open": "asyncio.run(leave())",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
async def test_a_process_ends_without_a_word(ending: str) -> None:
    script = f"""
        import asyncio, sys
        from loom.llm.openai_compat import OpenAICompatibleProvider
        from loom.types import ChatMessage, Role
        hello = [ChatMessage(Role.USER, "Hello")]
        provider = OpenAICompatibleProvider(sys.argv[1])
        async def ask():
            assert (await provider.chat(hello)).message.content == "Hi there, you"
        async def leave():
            async for event in provider.chat_stream(hello):
                break
        {ending}
    """
    async with ModelServer(["Hi there, you"] * 2, chunk=2) as server:
        flags = ["-W", "default"] if ending != HARD else []
        process = await asyncio.create_subprocess_exec(
            sys.executable, *flags, "-c", textwrap.dedent(script), server.base_url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    assert (process.returncode, output.decode()) == (0, "")


# --- the key ------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "item",
    [
        served(status=400, body=f'{{"error":{{"message":"header was Bearer {KEY} / {KEY[::1]}"}}}}'.encode()),
        served(status=500, body=f"<pre>{KEY}</pre>".encode()),
        served(status=302, headers={"Location": f"http://x.example/{KEY}"}),
        served(body=f'{{"oops": "{KEY}"}}'.encode()),
        served(body=b"HTTP garbage", cut_at=3),
        served(status=429, body=f'{{"error":"{KEY.encode().hex()}"}}'.encode()),
    ],
)
async def test_the_key_is_in_no_error(wire: Wire, item: Any) -> None:
    async with ModelServer([item]) as server, wire(server.base_url, max_retries=0) as provider:
        with pytest.raises(LoomError) as caught:
            await provider.chat(HELLO)
    seen = [str(caught.value), repr(caught.value), repr(caught.value.info())]
    seen += traceback.format_exception(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        seen.append(repr(error) + repr(error.__dict__))
        error = error.__cause__ or error.__context__
    assert not [text for text in seen if KEY in text or KEY.encode().hex() in text]


@both
async def test_the_key_is_in_no_repr_of_anything_in_the_provider(wire: Wire) -> None:
    async with (
        ModelServer(["a"]) as server,
        wire(server.base_url, headers={"X-Api-Key": "hush-hush"}) as provider,
    ):
        await provider.chat(HELLO)
        assert server.requests[0].headers.get("X-Api-Key") == "hush-hush"
        assert provider.api_key == KEY
        shown = repr(provider) + repr(vars(provider)) + repr([vars(provider), provider._failures])
    assert KEY not in shown
    assert "hush-hush" not in shown


@pytest.mark.parametrize("base_url", ["ftp://x/v1", "x/v1", "", "http://user:secretpass@h/v1", "http:///v1"])
@both
def test_an_address_that_cannot_work_is_refused(wire: Wire, base_url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wire(base_url)
    assert "secretpass" not in str(caught.value)


def test_a_key_no_header_can_carry_is_refused_without_showing_it() -> None:
    from loom.llm.openai_compat import OpenAICompatibleProvider

    for key in ("sk-abc\r\nX-Evil: 1", "sk-abc\x00", "sk-ключ"):
        with pytest.raises(ConfigError) as caught:
            OpenAICompatibleProvider("http://h/v1", key)
        assert "sk-abc" not in str(caught.value)
    assert OpenAICompatibleProvider("http://h/v1", " sk-abc\n").api_key == "sk-abc"


async def test_no_warning_is_left_behind_when_providers_are_forgotten() -> None:
    async with ModelServer(["a"]) as server:
        provider: Any = openai(server.base_url)
        await provider.chat(HELLO)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del provider
            gc.collect()
    assert caught == []


@both
async def test_a_service_that_ignores_stream_is_understood(wire: Wire) -> None:
    body = {
        openai: b'{"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]}',
        anthropic: b'{"type":"message","content":[{"type":"text","text":"whole"}],"stop_reason":"end_turn"}',
        gemini: b'{"candidates":[{"content":{"parts":[{"text":"whole"}]},"finishReason":"STOP"}]}',
        responses: b'{"status":"completed","output":[{"type":"message","role":"assistant",'
        b'"content":[{"type":"output_text","text":"whole"}]}]}',
    }[wire]  # type: ignore[index]
    async with ModelServer([served(body=body)]) as server, wire(server.base_url) as provider:
        events = await streamed(provider)
    assert events[0] == ContentDeltaEvent("whole")
    assert events[-1].message.content == "whole"  # type: ignore[union-attr]


async def test_a_body_over_a_mebibyte_is_sent_without_complaint() -> None:
    async with ModelServer([served(status=500), "ok"]) as server, openai(server.base_url) as provider:
        await provider.chat([ChatMessage(Role.USER, "x" * 2**21)])
        assert len(server.requests[1].raw) > 2**21


async def test_calls_of_a_script_reach_the_agent() -> None:
    async with (
        ModelServer([[call("add", a=1), call("add", a=2)]]) as server,
        openai(server.base_url) as provider,
    ):
        reply = await provider.chat(HELLO)
    assert [c.id for c in reply.message.tool_calls or ()] == ["call_1", "call_2"]
