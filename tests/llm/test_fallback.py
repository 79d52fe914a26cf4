"""One model after another: the provider, over scripted models."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from several import DOWN, HELLO, Raw, ask, both, names

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
from loom.llm.base import ContentDeltaEvent, LLMProvider, ModelSettings, StopEvent, UsageEvent
from loom.llm.fallback import Candidate, FallbackProvider
from loom.testing.scripted import ScriptedProvider, call, interrupted, say
from loom.types import ChatResponse, StopReason, ToolSpec, Usage

GOES_ON = [
    DOWN,
    RateLimitError("slow down", retry_after=30.0),
    AuthenticationError("the key is refused", status=401),
    MalformedReplyError("that was no reply"),
    ProviderError("asks for payment", status=402),
    RuntimeError("a bug of the provider"),
]
GOES_UP = [
    InvalidRequestError("no such parameter", status=400),
    ContextOverflowError("too long"),
    ConfigError("contradiction"),
    LoomError("something else"),
]


class Ticks:
    """A clock that moves a second each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@both
async def test_review_a_an_error_that_cannot_be_told_is_followed_by_the_next_model(streamed: bool) -> None:
    first, second = ScriptedProvider([Unspeakable()]), ScriptedProvider([say("hello")])
    reply = await ask(FallbackProvider([first, second]), streamed)
    assert reply.message.content == "hello"


class Quits(LLMProvider):
    """Raises what is no Exception, at once."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def chat(self, messages: Any, **options: Any) -> ChatResponse:
        raise self.error

    async def chat_stream(self, messages: Any, **options: Any) -> AsyncIterator[Any]:
        if messages:
            raise self.error
        yield say("never")


@both
@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), BaseException("odd")], ids=repr)
async def test_review_a_what_a_model_raises_that_is_no_exception_is_its_failure(
    error: BaseException, streamed: bool
) -> None:
    reply = await ask(FallbackProvider([Quits(error), ScriptedProvider([say("hello")])]), streamed)
    assert reply.message.content == "hello"
    with pytest.raises(ProviderError, match=type(error).__name__):
        await ask(FallbackProvider([Quits(error)]), streamed)


async def test_review_a_a_client_that_closes_its_generator_is_followed_by_the_next_model() -> None:
    reply = await ask(FallbackProvider([Quits(GeneratorExit()), ScriptedProvider([say("hello")])]), False)
    assert reply.message.content == "hello"


@both
async def test_review_a_the_terminals_interrupt_goes_up(streamed: bool) -> None:
    second = ScriptedProvider([say("hello")])
    with pytest.raises(KeyboardInterrupt):
        await ask(FallbackProvider([Quits(KeyboardInterrupt()), second]), streamed)


# --- which errors go on -------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("error", GOES_ON, ids=lambda error: type(error).__name__)
async def test_a_model_that_fails_is_followed_by_the_next(error: Exception, streamed: bool) -> None:
    first, second = ScriptedProvider([error]), ScriptedProvider([say("hello", model="second-1")])
    reply = await ask(FallbackProvider([first, second]), streamed)
    assert reply.message.content == "hello"
    assert reply.model == "second-1"
    failed, answered = reply.attempts
    assert failed.error is not None
    assert str(error) in failed.error.message
    assert answered.error is None
    assert (len(first.requests), len(second.requests)) == (1, 1)


@both
@pytest.mark.parametrize("error", GOES_UP, ids=lambda error: type(error).__name__)
async def test_what_the_next_model_cannot_help_goes_up_as_it_is(error: Exception, streamed: bool) -> None:
    second = ScriptedProvider(["never"])
    with pytest.raises(type(error)) as caught:
        await ask(FallbackProvider([ScriptedProvider([error]), second]), streamed)
    assert str(caught.value) == str(error)
    assert getattr(caught.value, "status", None) == getattr(error, "status", None)
    assert second.requests == []
    # Named, it goes on.
    provider = FallbackProvider([ScriptedProvider([error]), second], on=(type(error),))
    assert (await ask(provider, streamed)).message.content == "never"


@both
async def test_on_is_all_there_is(streamed: bool) -> None:
    for error in (DOWN, RuntimeError("a bug")):
        with pytest.raises(type(error)):
            await ask(
                FallbackProvider([ScriptedProvider([error]), ScriptedProvider()], on=(RateLimitError,)),
                streamed,
            )
    for kinds in ((Exception,), (ProviderError,), (LoomError,)):
        provider = FallbackProvider(
            [ScriptedProvider([InvalidRequestError("no")]), ScriptedProvider()], on=kinds
        )
        with pytest.raises(InvalidRequestError):
            await ask(provider, streamed)
    foreign = FallbackProvider(
        [ScriptedProvider([KeyError("vendor")]), ScriptedProvider(["ok"])], on=(KeyError,)
    )
    assert (await ask(foreign, streamed)).message.content == "ok"


@both
async def test_each_candidate_is_asked_for_its_own_model(streamed: bool) -> None:
    first, second, third = ScriptedProvider([DOWN]), ScriptedProvider([DOWN]), ScriptedProvider(["ok"])
    provider = FallbackProvider([Candidate(first, "big-1"), Candidate(second, "big-2"), third])
    settings = ModelSettings(temperature=0.5)
    specs = [ToolSpec("t")]
    await ask(provider, streamed, model="of the kernel", tools=specs, settings=settings)
    asked = [each.requests[0] for each in (first, second, third)]
    assert [request.model for request in asked] == ["big-1", "big-2", None]
    assert all(request.tools == tuple(specs) and request.settings == settings for request in asked)
    assert all(request.messages == tuple(HELLO) for request in asked)


async def test_settings_are_passed_only_when_there_are_some() -> None:
    class Plain(ScriptedProvider):
        async def chat(self, messages: Any, *, tools: Any = None, model: Any = None) -> ChatResponse:  # type: ignore[override]
            return say("plain")

    assert (await FallbackProvider([Plain()]).chat(HELLO)).message.content == "plain"


# --- streams ------------------------------------------------------------------------------------------


async def test_a_stream_that_has_shown_something_is_not_handed_over() -> None:
    second = ScriptedProvider(["never"])
    provider = FallbackProvider([ScriptedProvider([interrupted("Once upon", after=1)], chunk=4), second])
    shown: list[Any] = []
    with pytest.raises(ProviderUnavailableError, match="broke off") as caught:
        shown += [event async for event in provider.chat_stream(HELLO)]
    assert second.requests == []
    assert names(caught.value.attempts) == [("scripted", "provider_unavailable")]


async def test_a_stream_that_has_shown_nothing_is() -> None:
    """Whole or streamed, what counts tokens before the break is not shown, and not lost either."""
    counted = Usage(100, 1)
    broken = Raw(UsageEvent(Usage(90)), UsageEvent(counted), DOWN)
    second = ScriptedProvider(["Once upon a time"], chunk=4)
    events = [event async for event in FallbackProvider([broken, second]).chat_stream(HELLO)]
    assert UsageEvent(counted) not in events
    reply = events[-1]
    assert isinstance(reply, ChatResponse)
    assert (
        "".join(event.delta for event in events if isinstance(event, ContentDeltaEvent)) == "Once upon a time"
    )
    assert reply.attempts[0].usage == counted
    assert reply.usage == reply.attempts[1].usage == Usage(10, 5)
    assert broken.closed == 1


async def test_what_was_held_back_comes_in_order() -> None:
    told = [
        UsageEvent(Usage(3)),
        ContentDeltaEvent("a"),
        UsageEvent(Usage(3, 1)),
        ContentDeltaEvent("b"),
        StopEvent(StopReason.STOP),
    ]
    events = [event async for event in FallbackProvider([Raw(*told)]).chat_stream(HELLO)]
    assert events[:-1] == told
    reply = events[-1]
    assert isinstance(reply, ChatResponse)
    assert (reply.message.content, reply.usage, reply.stop_reason) == ("ab", Usage(3, 1), StopReason.STOP)
    silent = [UsageEvent(Usage(3)), StopEvent(StopReason.STOP)]
    assert [event async for event in FallbackProvider([Raw(*silent)]).chat_stream(HELLO)][:-1] == silent


async def test_whole_and_streamed_give_the_same_reply() -> None:
    reply = say("text", call("add", a=1), thinking="hm", signature="s", model="m")
    for script in ([reply], [DOWN, reply], [DOWN, RateLimitError("no"), reply]):
        whole, streamed = [
            await ask(FallbackProvider([ScriptedProvider([item]) for item in script], clock=Ticks()), way)
            for way in (False, True)
        ]
        assert whole == streamed


@both
@pytest.mark.parametrize("nothing", [None, "text", {"message": 1}])
async def test_what_is_no_reply_is_a_malformed_one(streamed: bool, nothing: Any) -> None:
    provider = FallbackProvider([Raw(whole=nothing), ScriptedProvider(["ok"])])
    reply = await ask(provider, streamed)
    assert names(reply.attempts) == [("Raw", "malformed_reply"), ("scripted", None)]


async def test_closing_the_stream_closes_the_one_beneath() -> None:
    first, second = Raw(DOWN), Raw(ContentDeltaEvent("a"), ContentDeltaEvent("b"))
    stream = FallbackProvider([first, second]).chat_stream(HELLO)
    assert await anext(stream) == ContentDeltaEvent("a")
    assert (first.closed, second.closed) == (1, 0)
    await stream.aclose()
    assert second.closed == 1


@both
async def test_cancelling_is_not_a_failure(streamed: bool) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def hang(seconds: float) -> None:
        begun.set()
        await never.wait()

    first, second = ScriptedProvider(["late"], latency=1.0, sleep=hang), ScriptedProvider(["never"])
    task = asyncio.create_task(ask(FallbackProvider([first, second]), streamed))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert second.requests == []


# --- attempts -----------------------------------------------------------------------------------------


@both
async def test_attempts_tell_who_was_asked_for_how_long(streamed: bool) -> None:
    provider = FallbackProvider(
        [
            Candidate(ScriptedProvider([DOWN]), "big-1", "vendor:big-1"),
            Candidate(ScriptedProvider([RateLimitError("slow", retry_after=2.0)]), "big-2"),
            ScriptedProvider([say("ok", usage=Usage(7, 3))]),
        ],
        clock=Ticks(),
    )
    reply = await ask(provider, streamed)
    assert names(reply.attempts) == [
        ("vendor:big-1", "provider_unavailable"),
        ("big-2", "rate_limit"),
        ("scripted", None),
    ]
    assert [attempt.duration for attempt in reply.attempts] == [1.0, 1.0, 1.0]
    assert reply.attempts[2].usage == Usage(7, 3)
    limited = reply.attempts[1].error
    assert limited is not None
    assert limited.retry_after == 2.0


@both
async def test_when_all_fail_the_last_error_tells_of_the_others(streamed: bool) -> None:
    class Odd(ProviderError):
        """An error whose class cannot be called with a text."""

        code = "odd"

        def __init__(self, *, detail: int) -> None:
            super().__init__(f"odd {detail}", status=418, retryable=True, provider_code="p", request_id="r")
            self.detail = detail

    last = Odd(detail=7)
    candidates = [
        Candidate(ScriptedProvider([DOWN] * 2), label="a:1"),
        Candidate(ScriptedProvider([RuntimeError("x" * 5000)] * 2), label="b:2"),
        Candidate(ScriptedProvider([last] * 2), label="c:3"),
    ]
    provider = FallbackProvider(candidates)
    texts: list[str] = []
    for _ in range(2):
        with pytest.raises(Odd) as caught:
            await ask(provider, streamed)
        error = caught.value
        assert error is not last
        assert error.__cause__ is last
        assert (error.status, error.retryable, error.provider_code, error.request_id, error.detail) == (
            418,
            True,
            "p",
            "r",
            7,
        )
        assert names(error.attempts) == [("a:1", "provider_unavailable"), ("b:2", "provider"), ("c:3", "odd")]
        texts.append(str(error))
        assert error.info().message == texts[-1]
    assert texts[0] == texts[1], "telling of the others does not pile up on an error raised twice"
    assert texts[0].startswith("odd 7 (asked before, in vain: a:1: provider_unavailable: it is down; b:2: ")
    assert len(texts[0]) < 1000
    assert str(last) == "odd 7"


@both
async def test_an_error_that_goes_up_tells_of_the_failures_before(streamed: bool) -> None:
    """A conversation too long for the second model must be known as that, or nobody makes it shorter."""
    provider = FallbackProvider(
        [ScriptedProvider([DOWN]), ScriptedProvider([ContextOverflowError("too long")])]
    )
    with pytest.raises(ContextOverflowError, match=r"too long \(asked before, in vain: scripted: .*down"):
        await ask(provider, streamed)


@both
async def test_a_foreign_error_at_the_end_is_a_provider_error(streamed: bool) -> None:
    provider = FallbackProvider([ScriptedProvider([DOWN]), ScriptedProvider([ValueError("bad")])])
    with pytest.raises(ProviderError, match=r"the provider failed: ValueError: bad.*it is down") as caught:
        await ask(provider, streamed)
    assert isinstance(caught.value.__cause__, ValueError)


@both
async def test_fallbacks_nest_and_report_as_one(streamed: bool) -> None:
    def one(label: str, item: Any) -> Candidate:
        return Candidate(ScriptedProvider([item]), label=label)

    inner = FallbackProvider([one("a", DOWN), one("b", RateLimitError("slow"))])
    outer = FallbackProvider([inner, FallbackProvider([one("c", DOWN), one("d", "ok")])])
    reply = await ask(outer, streamed)
    assert names(reply.attempts) == [
        ("a", "provider_unavailable"),
        ("b", "rate_limit"),
        ("c", "provider_unavailable"),
        ("d", None),
    ]
    failing = FallbackProvider(
        [
            FallbackProvider([one("a", DOWN), one("b", DOWN)]),
            FallbackProvider([one("c", DOWN), one("d", DOWN)]),
        ]
    )
    with pytest.raises(ProviderUnavailableError) as caught:
        await ask(failing, streamed)
    assert [name for name, _ in names(caught.value.attempts)] == ["a", "b", "c", "d"]
    assert [str(caught.value).count(f"{name}: ") for name in "abc"] == [1, 1, 1]


# --- the rest of the port -----------------------------------------------------------------------------


async def test_closing_closes_all_even_when_one_refuses() -> None:
    class Stuck(ScriptedProvider):
        async def aclose(self) -> None:
            raise OSError("stuck")

    class Duck:
        async def chat(self, messages: Any, *, tools: Any = None, model: Any = None) -> ChatResponse:
            return say("quack")

    duck: Any = Duck()
    first, last = ScriptedProvider(), ScriptedProvider()
    with pytest.raises(OSError, match="stuck"):
        await FallbackProvider([first, Stuck(), duck, last]).aclose()
    assert first.closed
    assert last.closed
    assert names((await FallbackProvider([duck]).chat(HELLO)).attempts) == [("Duck", None)]


def test_a_fallback_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError):
        FallbackProvider([])
