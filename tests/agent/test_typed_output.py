"""``output_type`` over both wires: seen while it grows, asked for again within bounds, honest at the end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
from services import WIRES, Wire, anthropic

from loom import Agent, RunResult, RunState, Runtime
from loom.errors import OutputInvalid, to_exception
from loom.events import Event, PartialOutput, QualityJudged, decode_event, encode_event
from loom.store.file import FileSessionStore
from loom.testing import ModelServer, ScriptedProvider, call
from loom.types import Role, to_json

RIGHT = {"title": "Cats", "lives": [9]}
WRONG = {"title": "Cats", "lives": "nine"}


class Facts(TypedDict):
    title: str
    lives: list[int]


def said(wire: Wire, value: dict[str, Any]) -> Any:
    """``value`` as the services answer a wanted shape: with a tool call at Anthropic, with text elsewhere."""
    return call("Facts", **value) if wire is anthropic else to_json(value)


async def run(agent: Agent[Any, Any], streaming: bool) -> tuple[RunResult[Any], list[Event]]:
    session = agent.session()
    if not streaming:
        result = await session.run("facts?")
        return result, list(result.events)
    handle = session.start("facts?")
    seen = [event async for event in handle]
    return await handle, seen


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("wire", WIRES)
async def test_asked_again_until_it_is_right(wire: Wire, streaming: bool) -> None:
    replies = [said(wire, WRONG), said(wire, {"title": "Cats"}), said(wire, RIGHT)]
    async with ModelServer(replies) as server:
        provider = wire(server)
        result, events = await run(Agent(model=provider, output_type=Facts), streaming)
        await provider.aclose()
    assert (result.state, result.output, result.iterations) == (RunState.COMPLETED, RIGHT, 3)
    verdicts = [(e.passed, e.attempt) for e in events if isinstance(e, QualityJudged)]
    assert verdicts == [(False, 1), (False, 2), (True, 3)]
    again = server.requests[1].body["messages"][-1]
    assert again["role"] == "user"
    assert "lives" in str(again["content"]), "the model is told what was wrong"
    assert "nine" in str(server.requests[2].body["messages"]), "and sees what it had said"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("wire", WIRES)
async def test_never_right_is_output_invalid(wire: Wire, streaming: bool) -> None:
    async with ModelServer([said(wire, WRONG)] * 5) as server:
        provider = wire(server)
        agent = Agent(model=provider, output_type=Facts, runtime=Runtime(output_attempts=3))
        result, _ = await run(agent, streaming)
        await provider.aclose()
    assert (result.state, result.iterations, server.remaining) == (RunState.FAILED, 3, 2)
    assert result.error is not None
    assert isinstance(to_exception(result.error), OutputInvalid)
    assert "3 attempts" in result.error.message


# --- as it grows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_partial_output_grows_to_the_output(wire: Wire) -> None:
    async with ModelServer([said(wire, RIGHT)], chunk=3) as server:
        provider = wire(server)
        result, events = await run(Agent(model=provider, output_type=Facts), True)
        await provider.aclose()
    values = [event.value for event in events if isinstance(event, PartialOutput)]
    assert values[0] == {"title": ""} or values[0]["title"] in ("C", "Ca")
    assert values[-1] == result.output == RIGHT
    assert all(a != b for a, b in pairwise(values))
    assert "output.partial" not in [event.type for event in result.events], "it is not kept"


async def test_prose_and_fences_before_it_show_nothing() -> None:
    text = 'Sure! Here [1] it {is}:\n```json\n{"title": "Cats", "lives": [9]}\n```\n'
    model = ScriptedProvider([text], chunk=4)
    result, events = await run(Agent(model=model, output_type=Facts), True)
    assert result.output == RIGHT
    before = ""
    for event in events:
        if event.type == "text.delta":
            before += event.payload["text"]
        elif isinstance(event, PartialOutput):
            assert '{"' in before
            assert event.value.keys() <= RIGHT.keys()


async def test_every_reply_is_shown_from_its_own_beginning() -> None:
    replies = ['{"title": "Dogs", "lives": "one"}', '{"title": "Cats", "lives": [9]}']
    result, events = await run(Agent(model=ScriptedProvider(replies, chunk=5), output_type=Facts), True)
    assert result.output == RIGHT
    words = [event for event in events if isinstance(event, PartialOutput | QualityJudged)]
    judged = next(n for n, event in enumerate(words) if isinstance(event, QualityJudged))
    first, second = words[:judged], words[judged + 1 : -1]
    assert first[-1].payload["value"] == {"title": "Dogs", "lives": "one"}
    assert "Dogs" not in str([event.payload for event in second])


@pytest.mark.parametrize("output_type", [None, str, int])
async def test_only_objects_and_arrays_are_shown(output_type: Any) -> None:
    _, events = await run(
        Agent(model=ScriptedProvider(['{"a": 1}'] * 9, chunk=2), output_type=output_type), True
    )
    assert not [event for event in events if isinstance(event, PartialOutput)]


async def test_an_array_is_shown_when_an_array_is_wanted() -> None:
    model = ScriptedProvider(["[1, 2, 3]"], chunk=2)
    result, events = await run(Agent(model=model, output_type=list[int]), True)
    values = [event.value for event in events if isinstance(event, PartialOutput)]
    assert (values[0], values[-1], result.output) == ([1], [1, 2, 3], [1, 2, 3])


async def test_one_who_listens_is_told_and_it_goes_over_wires() -> None:
    heard: list[Any] = []
    agent = Agent(model=ScriptedProvider(['{"title": "Cats", "lives": [9]}'], chunk=4), output_type=Facts)
    agent.on("output.partial", lambda value, **_: heard.append(value))
    _, events = await run(agent, True)
    shown = [event for event in events if isinstance(event, PartialOutput)]
    assert heard == [event.value for event in shown]
    assert [decode_event(encode_event(event)) for event in shown] == shown


# --- null is a value ----------------------------------------------------------------------------------

NOTHING = [
    (Facts | None, "null"),
    (int | None, "null"),
    (type(None), "null"),
    (Literal[None, "a"], " null\n"),
    (Facts | None, "```json\nnull\n```"),
]


@pytest.mark.parametrize(("output_type", "reply"), NOTHING)
async def test_review_d2_null_is_the_output_none(output_type: Any, reply: str, tmp_path: Path) -> None:
    agent = Agent(model=ScriptedProvider([reply]), output_type=output_type)
    result = await agent.run("facts?")
    assert (result.state, result.output) == (RunState.COMPLETED, None)
    store = FileSessionStore(tmp_path / "log")
    session = Agent(model=ScriptedProvider([reply]), output_type=output_type, session_store=store).session(
        "s"
    )
    first = await session.run("facts?")
    later = Agent(model=ScriptedProvider([]), output_type=output_type, session_store=store).session("s")
    assert (await later.resume(first.run_id)).output is None, "and so when it is read back"
    await store.aclose()


async def test_review_d2_other_values_of_a_choice_stay_values() -> None:
    for reply, value in (('"a"', "a"), ("0", 0), ("false", False), ('""', "")):
        agent = Agent(model=ScriptedProvider([reply]), output_type=Literal["a", ""] | int | bool | None)
        output = (await agent.run("x")).output
        assert (output, type(output)) == (value, type(value))


async def test_review_d2_a_child_that_answers_null_says_null() -> None:
    child = Agent(model=ScriptedProvider(["null"]), output_type=Facts | None)  # type: ignore[arg-type]
    boss_model = ScriptedProvider([call("ask", task="facts?"), "done"])
    boss = Agent(model=boss_model, tools=[child.as_tool(name="ask", description="Ask.")])
    result = await boss.run("go")
    assert [m.content for m in result.messages if m.role is Role.TOOL] == ["null"]


async def test_review_d2_the_text_stays_where_nothing_was_parsed() -> None:
    result = await Agent(model=ScriptedProvider(["null"])).run("x")
    assert result.output == "null", "an agent without output_type has the text"
