"""Falling back over real sockets, and what becomes of the keys."""

import asyncio
from typing import Any

import pytest
from several import add, both, complete, replies

from loom.agent import Agent
from loom.config.model import Model
from loom.config.models import FallbackModel
from loom.errors import AuthenticationError, ContextOverflowError, RateLimitError
from loom.events import TextDelta, encode_event
from loom.testing.model_server import ModelServer, served
from loom.testing.scripted import ScriptedProvider, call, interrupted, say
from loom.types import RunState

FIRST_KEY, SECOND_KEY = "sk-first-5f3a9c1e7b2d4860aabb", "sk-second-77c1d0e9b8a7f6e5d4c3"


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
        result = await complete(agent, "add them", streamed)
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
        assert (await complete(agent, "hello", True)).output == "Hi."
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
        result = await complete(agent, "hello", True)
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
