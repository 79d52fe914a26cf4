"""Gemini over a socket: runs with tools, errors written into a stream, refusals in Google's words."""

from typing import Any

import pytest
from gemini_chunks import END, Json, chunk, raw
from msgspec.structs import replace
from wires import HELLO, Waits, gemini, keep, last

from loom import Agent, RunState, tool
from loom.errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    ProviderUnavailableError,
)
from loom.llm.base import ContentDeltaEvent
from loom.testing.model_server import ModelServer, served
from loom.testing.scripted import call, say


async def test_a_blocked_prompt_ends_a_run_with_its_own_error() -> None:
    item = served(body=raw({"promptFeedback": {"blockReason": "SAFETY"}}))
    async with ModelServer([item]) as server, gemini(server.base_url) as provider:
        result = await Agent(model=provider).run("Hello")
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "content_filter"


@tool(read_only=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_run_with_tools_gives_every_signature_back(streamed: bool) -> None:
    script = [
        say("", replace(call("add", a=1, b=2), signature="c2lnMQ=="), call("add", a=3, b=4)),
        say("", replace(call("add", a=3, b=7), signature="c2lnMg==")),
        "Ten.",
    ]
    async with ModelServer(script, chunk=2) as server, gemini(server.base_url) as provider:
        agent = Agent(model=provider, tools=[add])
        if streamed:
            async for _ in agent.stream("Add."):
                pass
        else:
            assert (await agent.run("Add.")).output == "Ten."
        *_, request = server.requests
    signatures = [
        part.get("thoughtSignature")
        for content in request.body["contents"]
        for part in content["parts"]
        if "functionCall" in part
    ]
    assert signatures == ["c2lnMQ==", None, "c2lnMg=="]
    answered = [
        (part["functionResponse"]["id"], part["functionResponse"]["response"])
        for content in request.body["contents"]
        for part in content["parts"]
        if "functionResponse" in part
    ]
    assert answered == [
        ("call_1", {"result": "3"}),
        ("call_2", {"result": "7"}),
        ("call_3", {"result": "10"}),
    ]
    assert [content["role"] for content in request.body["contents"]] == [
        "user",
        "model",
        "user",
        "model",
        "user",
    ]


# --- errors -------------------------------------------------------------------------------------------

HIGH_DEMAND = (
    b'{\n  "error": {\n    "code": 503,\n    "message": "high demand",\n    "status": "UNAVAILABLE"\n  }\n}\n'
)


def sse(*chunks: Any, after: bytes = b"") -> Any:
    body = b"".join(b"data: " + raw(item) + b"\r\n\r\n" for item in chunks) + after
    return served(body=body, headers={"Content-Type": "text/event-stream"}, piece=5)


async def test_an_error_written_into_the_stream_as_it_is_is_not_overlooked() -> None:
    # Told by users of the service: it gives up without the form of an event, even after a STOP.
    async with (
        ModelServer([sse(chunk({"text": "Okay"}), END, after=HIGH_DEMAND)]) as server,
        gemini(server.base_url) as provider,
    ):
        events: list[Any] = []
        with pytest.raises(ProviderUnavailableError, match="high demand"):
            await keep(events, provider)
    assert events == [ContentDeltaEvent("Okay")]


async def test_an_error_before_any_text_is_asked_again() -> None:
    waits = Waits()
    script = [
        sse(after=HIGH_DEMAND),
        served(body=b"[" + HIGH_DEMAND + b"]"),
        sse(chunk({"text": "Okay"}), END),
    ]
    async with ModelServer(script) as server, gemini(server.base_url, sleep=waits) as provider:
        assert (await last(provider)).message.content == "Okay"
    assert len(waits) == 2


async def test_a_reply_cut_by_the_service_itself_is_asked_again() -> None:
    broken = served(body=raw({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}))
    async with ModelServer([broken, broken, "ok"]) as server, gemini(server.base_url) as provider:
        assert (await provider.chat(HELLO)).message.content == "ok"
        assert len(server.requests) == 3


REFUSALS: list[tuple[int, Json, type[LoomError], str]] = [
    (
        400,
        {
            "code": 400,
            "message": "API key expired. Please renew the API key.",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
        },
        AuthenticationError,
        "expired",
    ),
    (
        400,
        {
            "code": 400,
            "message": "Der API-Schlüssel ist ungültig.",
            "status": "INVALID_ARGUMENT",
            "details": [{"reason": "API_KEY_INVALID"}],
        },
        AuthenticationError,
        "ungültig",
    ),
    (
        400,
        {
            "code": 400,
            "message": "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
            "status": "INVALID_ARGUMENT",
        },
        ContextOverflowError,
        "1200293",
    ),
    (
        400,
        {
            "code": 400,
            "message": "User location is not supported for the API use.",
            "status": "FAILED_PRECONDITION",
        },
        InvalidRequestError,
        "location",
    ),
    (
        400,
        {
            "code": 400,
            "message": "Function call is missing a thought_signature in functionCall parts.",
            "status": "INVALID_ARGUMENT",
        },
        InvalidRequestError,
        "thought_signature",
    ),
    (
        403,
        {"code": 403, "message": "Method doesn't allow unregistered callers.", "status": "PERMISSION_DENIED"},
        AuthenticationError,
        "unregistered",
    ),
    (
        404,
        {"code": 404, "message": "models/x is not found for API version v1beta", "status": "NOT_FOUND"},
        InvalidRequestError,
        "not found",
    ),
]


@pytest.mark.parametrize(
    ("status", "error", "kind", "said"), REFUSALS, ids=[error["message"][:30] for _, error, _, _ in REFUSALS]
)
@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
async def test_refusals_in_googles_words(
    status: int, error: Json, kind: type[LoomError], said: str, array: bool, streamed: bool
) -> None:
    body = raw([{"error": error}] if array else {"error": error})
    async with (
        ModelServer([served(status=status, body=body)]) as server,
        gemini(server.base_url) as provider,
    ):
        with pytest.raises(kind, match=said):
            await (last(provider) if streamed else provider.chat(HELLO))


async def test_the_wait_google_names_is_obeyed() -> None:
    waits = Waits()
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}
    error = {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [detail]}
    script = [served(status=429, body=raw({"error": error})), "ok"]
    async with (
        ModelServer(script) as server,
        gemini(server.base_url, sleep=waits, rand=lambda: 0.0) as provider,
    ):
        assert (await provider.chat(HELLO)).message.content == "ok"
    assert waits == [7.5]
