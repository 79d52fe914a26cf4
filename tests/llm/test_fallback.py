"""Several models as one, over scripted models and real sockets, in both faces."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from loom.agent import Agent
from loom.config.model import Model, Price, Secret
from loom.config.models import FallbackModel, RoutedModel
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
from loom.events import ModelReplied, TextDelta, decode_event, encode_event
from loom.llm.base import ContentDeltaEvent, LLMProvider, ModelSettings, StopEvent, UsageEvent
from loom.llm.fallback import Candidate, FallbackProvider
from loom.loop import Agent as LoopAgent
from loom.loop import AgentConfig
from loom.policies.profile import Runtime, RuntimeLimits
from loom.testing.model_server import ModelServer, served
from loom.testing.scripted import ScriptedProvider, call, interrupted, say
from loom.tools.function import tool
from loom.tools.registry import ToolRegistry
from loom.types import Attempt, ChatMessage, ChatResponse, Role, RunState, StopReason, ToolSpec, Usage

HELLO = [ChatMessage(Role.USER, "Hello")]
FIRST_KEY, SECOND_KEY = "sk-first-5f3a9c1e7b2d4860aabb", "sk-second-77c1d0e9b8a7f6e5d4c3"
DOWN = ProviderUnavailableError("it is down", status=503)
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


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Ticks:
    """A clock that moves a second each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Raw(LLMProvider):
    """A provider that yields and returns just what it is told to, reply or not."""

    def __init__(self, *events: Any, whole: Any = None) -> None:
        self.events = events
        self.whole = whole
        self.closed = 0

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        answer: ChatResponse = self.whole
        return answer

    async def chat_stream(self, messages: Sequence[ChatMessage], **options: Any) -> AsyncIterator[Any]:
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed += 1


async def ask(provider: LLMProvider, streamed: bool, **options: Any) -> ChatResponse:
    if not streamed:
        return await provider.chat(HELLO, **options)
    event = [event async for event in provider.chat_stream(HELLO, **options)][-1]
    assert isinstance(event, ChatResponse)
    return event


both = pytest.mark.parametrize("streamed", [False, True])


def names(attempts: Sequence[Attempt]) -> list[tuple[str, str | None]]:
    return [(attempt.model, attempt.error.code if attempt.error else None) for attempt in attempts]


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


# --- the declaration ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [[], (), "openai:gpt-4o", {"a": "openai:gpt-4o"}, 7, None, Model.offline()])
def test_models_are_a_list_of_some(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="list of models"):
        FallbackModel(wrong)


@pytest.mark.parametrize("wrong", [7, None, object(), ScriptedProvider, Secret("x"), b"openai:x"])
def test_an_entry_is_a_model_or_a_provider(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="cannot ask"):
        FallbackModel([Model.offline(), wrong])


@pytest.mark.parametrize(
    "wrong", [(), RateLimitError, "rate_limit", (RateLimitError("x"),), (int,), (KeyboardInterrupt,)]
)
def test_on_is_a_tuple_of_errors(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="on must be"):
        FallbackModel([Model.offline()], on=wrong)


def test_names_are_read_at_once() -> None:
    with pytest.raises(ConfigError, match="provider:name"):
        FallbackModel(["gpt-4o"])
    assert FallbackModel(["openai:a"]) == FallbackModel([Model.openai("a")])


def test_a_declaration_shows_models_and_no_keys() -> None:
    model = FallbackModel(
        [
            Model.openai("a", api_key=FIRST_KEY),
            FallbackModel(["groq:b", ScriptedProvider()]),
            RoutedModel(models={"x": Model.offline()}),
        ]
    )
    assert model.identifier == (
        "fallback(openai:a, fallback(groq:b, ScriptedProvider), routed(x: offline:offline))"
    )
    assert FIRST_KEY not in repr(model) + repr(Agent(model=model))
    with pytest.raises(AttributeError):
        model.models = ()  # type: ignore[misc]


# --- whole runs ---------------------------------------------------------------------------------------


def replies(result: Any) -> list[ModelReplied]:
    return [event for event in result.events if isinstance(event, ModelReplied)]


def paired(messages: Sequence[ChatMessage]) -> bool:
    calls = [call.id for message in messages for call in message.tool_calls or ()]
    results = [message.tool_call_id for message in messages if message.role is Role.TOOL]
    return calls == results


@both
async def test_a_second_model_goes_on_with_the_conversation(streamed: bool) -> None:
    first = ScriptedProvider([call("add", a=1, b=2), DOWN, DOWN])
    second = ScriptedProvider([say("", call("add", a=3, b=4), model="m2"), say("Seven.", model="m2")])
    agent = Agent(model=FallbackModel([first, second]), tools=[add], instructions="Be brief.")
    if streamed:
        run = agent.session().start("add them")
        told = [event async for event in run.events()]
        assert "".join(event.text for event in told if isinstance(event, TextDelta)) == "Seven."
        result = await run
    else:
        result = await agent.run("add them")
    assert result.output == "Seven."
    assert paired(result.messages)
    seen = second.requests[0].messages
    assert [message.role for message in seen] == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL]
    assert seen[3].content == "3"
    log = replies(result)
    assert [event.model for event in log] == ["scripted", "m2", "m2"]
    assert [names(event.attempts) for event in log] == [
        [],
        [("scripted", "provider_unavailable"), ("scripted#2", None)],
        [("scripted", "provider_unavailable"), ("scripted#2", None)],
    ]
    await agent.aclose()
    assert first.closed
    assert second.closed


@both
async def test_the_loop_agent_falls_back_as_well(streamed: bool) -> None:
    first = ScriptedProvider([call("add", a=1, b=2), DOWN])
    second = ScriptedProvider([say("Three.", model="m2")])
    provider = FallbackProvider([Candidate(first, "m1"), Candidate(second, "m2")])
    agent = LoopAgent(provider, tool_registry=ToolRegistry([add]), config=AgentConfig(model="elsewhere"))
    if streamed:
        done: Any = [event async for event in agent.run_turn_stream(HELLO)][-1]
        assert done.model == "m2"
    else:
        turn = await agent.run_turn(HELLO)
        assert (turn.reply, turn.model, turn.state) == ("Three.", "m2", RunState.COMPLETED)
        assert paired(turn.messages or ())
    assert {request.model for request in first.requests} == {"m1"}
    assert second.requests[0].model == "m2"


async def test_a_run_whose_models_all_fail_tells_of_each() -> None:
    model = FallbackModel([ScriptedProvider([DOWN]), ScriptedProvider([AuthenticationError("refused")])])
    result = await Agent(model=model).run("go")
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "authentication"
    assert (
        "refused (asked before, in vain: scripted: provider_unavailable: it is down)" in result.error.message
    )
    turn = LoopAgent(FallbackProvider([ScriptedProvider([DOWN]), ScriptedProvider([DOWN])])).run_turn(HELLO)
    with pytest.raises(ProviderUnavailableError, match="in vain"):
        await turn


# --- the log ------------------------------------------------------------------------------------------


def test_a_log_without_attempts_still_reads_and_one_success_adds_none() -> None:
    message = ChatMessage(Role.ASSISTANT, "hi")
    old = b'{"type":"model.replied","iteration":1,"message":{"role":"assistant","content":"hi"},"model":"m"}'
    assert decode_event(old) == ModelReplied(iteration=1, message=message, model="m")
    assert b"attempts" not in encode_event(ModelReplied(iteration=1, message=message))
    attempts = (Attempt("a", DOWN.info(), Usage(3), 0.5), Attempt("b"))
    told = ModelReplied(iteration=1, message=message, usage=Usage(1, 1), attempts=attempts)
    assert decode_event(encode_event(told)) == told
    assert told.spent == Usage(4, 1)
    assert msgspec.json.decode(encode_event(told))["attempts"][0]["error"]["code"] == "provider_unavailable"


@pytest.mark.parametrize(
    "odd", [None, 7, ("x",), (Attempt("\udcff"),), (Attempt("a", "no error"),), (Usage(),)]
)  # type: ignore[arg-type]
async def test_attempts_that_are_none_cost_nothing_but_themselves(odd: Any) -> None:
    reply = say("fine")
    told = ChatResponse(reply.message, reply.usage, reply.stop_reason, reply.model, odd)
    result = await Agent(model=ScriptedProvider([told])).run("go")
    assert result.output == "fine"
    assert replies(result)[0].attempts == ()


# --- money --------------------------------------------------------------------------------------------


def limited(max_cost: float) -> Runtime:
    return Runtime(limits=RuntimeLimits(max_cost=max_cost))


async def test_each_reply_costs_what_its_own_model_costs() -> None:
    usage = Usage(1_000_000, 0)
    reply = say("ok", usage=usage, model="one-name")
    async with ModelServer([reply, DOWN]) as one, ModelServer([reply]) as two:
        dear = Model.compatible("m", base_url=one.base_url, max_retries=0, price=Price(8, 8))
        cheap = Model.compatible("m", base_url=two.base_url, price=Price(2, 2))
        agent = Agent(model=FallbackModel([dear, cheap]), runtime=limited(100.0))
        assert (await agent.run("go")).cost == pytest.approx(8)
        again = await agent.run("go")
        assert again.cost == pytest.approx(2), "the same name, at the price of the one that answered"
        assert names(replies(again)[0].attempts) == [
            ("compatible:m", "provider_unavailable"),
            ("compatible:m#2", None),
        ]
        await agent.aclose()


async def test_what_a_failed_attempt_had_counted_is_spent_too() -> None:
    spent = Usage(1_000_000, 0)
    failed = FallbackProvider([Candidate(Raw(UsageEvent(spent), DOWN), label="dear")])
    agent = Agent(model=FallbackModel([failed, ScriptedProvider([say("ok", usage=spent)])]))
    agent.engine.price = lambda usage, name: usage.input_tokens * {"dear": 3.0}.get(name, 1.0) / 1_000_000
    run = agent.session().start("go")
    assert [event async for event in run.events()]
    result = await run
    assert result.usage == Usage(2_000_000, 0)
    assert result.cost == pytest.approx(4.0)
    assert replies(result)[0].usage == spent, "the reply alone: it says how full the window is"


async def test_an_unknown_price_is_unknown_and_not_nothing() -> None:
    async with ModelServer([DOWN, "b"]) as one, ModelServer(["a"]) as two:
        priced = Model.compatible("p", base_url=one.base_url, max_retries=0, price=Price(1, 1))
        agent = Agent(model=FallbackModel([priced, Model.compatible("u", base_url=two.base_url)]))
        assert (await agent.run("go")).cost is None
        assert (await agent.run("go")).cost is not None, "the price of this reply is known"
        await agent.aclose()


async def test_a_limit_on_money_needs_every_price() -> None:
    price = Price(1, 1)
    priced = Model.openai("a", api_key="k", price=price)
    nested = RoutedModel(models={"x": priced, "y": Model.groq("b", api_key="k")})
    with pytest.raises(ConfigError, match="groq:b") as caught:
        await Agent(model=FallbackModel([priced, nested]), runtime=limited(1.0)).run("go")
    assert "openai:a" not in str(caught.value)
    with pytest.raises(ConfigError, match="scripted"):
        await Agent(model=FallbackModel([priced, ScriptedProvider()]), runtime=limited(1.0)).run("go")


# --- keys and sockets ---------------------------------------------------------------------------------


async def test_a_model_without_a_key_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    keyless = Model.groq("b")
    agent = Agent(model=FallbackModel([keyless, ScriptedProvider(["one", "two"])]))
    for expected in ("one", "two"):
        result = await agent.run("go")
        assert result.output == expected
        failed = replies(result)[0].attempts[0]
        assert failed.model == "groq:b"
        assert failed.error is not None
        assert "GROQ_API_KEY" in failed.error.message
    with pytest.raises(AuthenticationError, match="GROQ_API_KEY"):
        await Agent(model=FallbackModel([keyless, ScriptedProvider()], on=(RateLimitError,))).run("go")
    with pytest.raises(AuthenticationError, match="XAI_API_KEY"):
        await Agent(model=FallbackModel([keyless, Model.xai("c")])).run("go")
    nested = FallbackModel([FallbackModel([keyless, Model.xai("c")]), ScriptedProvider(["three"])])
    assert (await Agent(model=nested).run("go")).output == "three"
    monkeypatch.setenv("GROQ_API_KEY", "k")
    assert Agent(model=FallbackModel([keyless])).engine.provider


def wire(kind: str, base_url: str, key: str, **options: Any) -> Model:
    options = {"max_retries": 0, "timeout": 5.0, **options}
    if kind == "anthropic":
        base_url = base_url.removesuffix("/v1")
    return Model(kind, f"{kind}-model", api_base=base_url, api_key=key, **options)


WIRES = ("compatible", "anthropic")
FAILURES = {
    "down": lambda: served(status=503, body=b'{"error": {"message": "overloaded"}}'),
    "refused": lambda: AuthenticationError("bad key"),
    "limited": lambda: RateLimitError("slow down", retry_after=3600.0),
    "payment": lambda: served(status=402, body=b'{"error": {"message": "out of credit"}}'),
    "malformed": lambda: served(body=b"<html>a proxy</html>"),
    "empty": lambda: served(body=b""),
    "cut": lambda: served("Hello", cut_at=0),
}


@both
@pytest.mark.parametrize("kinds", [WIRES, WIRES[::-1]], ids="-".join)
@pytest.mark.parametrize("failure", FAILURES)
async def test_over_the_wire(failure: str, kinds: tuple[str, str], streamed: bool) -> None:
    """The key of the first host never reaches the second, and each is asked for its own model."""
    script = [say("", call("add", a=1, b=2), thinking="hm", signature="c2ln"), FAILURES[failure]()]
    async with ModelServer(script) as one, ModelServer(["Three."]) as two:
        model = FallbackModel(
            [wire(kinds[0], one.base_url, FIRST_KEY), wire(kinds[1], two.base_url, SECOND_KEY)]
        )
        agent = Agent(model=model, tools=[add], instructions="Be brief.")
        if streamed:
            run = agent.session().start("add them")
            assert [event async for event in run.events()]
            result = await run
        else:
            result = await agent.run("add them")
        await agent.aclose()
        assert result.output == "Three.", result.error
        assert (len(one.requests), len(two.requests)) == (2, 1)
    assert {request.body["model"] for request in one.requests} == {f"{kinds[0]}-model"}
    assert two.requests[0].body["model"] == f"{kinds[1]}-model"
    for server, own, other in ((one, FIRST_KEY, SECOND_KEY), (two, SECOND_KEY, FIRST_KEY)):
        for request in server.requests:
            assert own in str(request.headers)
            assert other not in str(request.headers) + request.raw.decode()
    last = replies(result)[-1]
    assert last.attempts[0].error is not None
    for key in (FIRST_KEY, SECOND_KEY):
        assert key not in encode_event(last).decode()
    if failure == "limited":
        assert last.attempts[0].error.retry_after == 3600.0


@pytest.mark.parametrize("kind", WIRES)
async def test_a_stream_that_stalls_before_the_first_word_is_handed_over(kind: str) -> None:
    async with ModelServer([served("Hello", stall_at=0)]) as one, ModelServer(["Hi."]) as two:
        model = FallbackModel(
            [wire(kind, one.base_url, FIRST_KEY, timeout=0.05), wire("compatible", two.base_url, SECOND_KEY)]
        )
        agent = Agent(model=model)
        run = agent.session().start("hello")
        assert [event async for event in run.events()]
        assert (await run).output == "Hi."
        await asyncio.wait_for(one.requests[0].abandoned.wait(), 5)
        await agent.aclose()


@pytest.mark.parametrize("kind", WIRES)
async def test_a_stream_that_breaks_in_the_middle_ends_the_run(kind: str) -> None:
    async with ModelServer([served("Hello there", cut_at=900)], chunk=2) as one, ModelServer(["Hi."]) as two:
        model = FallbackModel(
            [wire(kind, one.base_url, FIRST_KEY), wire("compatible", two.base_url, SECOND_KEY)]
        )
        agent = Agent(model=model)
        run = agent.session().start("hello")
        told = [event async for event in run.events()]
        result = await run
        assert any(isinstance(event, TextDelta) for event in told)
        assert result.state is RunState.FAILED
        assert two.requests == []
        await agent.aclose()


@pytest.mark.parametrize("kind", WIRES)
async def test_a_break_told_in_the_stream_before_the_first_word_is_handed_over(kind: str) -> None:
    """As services do that are overloaded: the reply begins, counts its input, and breaks."""
    async with ModelServer([interrupted("Hello", after=1)]) as one, ModelServer(["Hi."]) as two:
        model = FallbackModel(
            [wire(kind, one.base_url, FIRST_KEY), wire("compatible", two.base_url, SECOND_KEY)]
        )
        agent = Agent(model=model)
        run = agent.session().start("hello")
        assert [event async for event in run.events()]
        result = await run
        assert result.output == "Hi.", result.error
        await agent.aclose()


async def test_an_overflow_goes_up_so_that_somebody_can_make_it_shorter() -> None:
    async with (
        ModelServer([ContextOverflowError("maximum context length")]) as one,
        ModelServer(["x"]) as two,
    ):
        models = [wire("compatible", server.base_url, FIRST_KEY) for server in (one, two)]
        result = await Agent(model=FallbackModel(models)).run("go")
        assert result.error is not None
        assert result.error.code == "context_overflow"
        assert two.requests == []
