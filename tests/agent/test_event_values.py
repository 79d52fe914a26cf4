"""Events as values: told apart by a word, shown as plain JSON data."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import loom
from loom import Agent, ToolContext, tool
from loom.agent import _AgentOptions  # pyright: ignore[reportPrivateUsage]
from loom.events import AnyEvent, Event, ModelReplied, ToolProgress, decode_event, encode_event
from loom.llm.base import ProviderEvent
from loom.loop_events import TurnEvent
from loom.testing import ScriptedProvider, call, say
from loom.types import ChatMessage, ChatResponse, Part, Role

FAMILIES = [*get_args(AnyEvent), *get_args(TurnEvent), *get_args(ProviderEvent), *get_args(Part)]


@pytest.mark.parametrize("kind", [k for k in FAMILIES if k is not ChatResponse], ids=lambda k: k.__name__)
def test_review_j_type_is_the_word_on_the_wire(kind: Any) -> None:
    assert kind.type == kind.__struct_config__.tag
    assert "type" not in kind.__struct_fields__, "the word is the kind's, not the value's"


def test_review_j_event_classes_come_through_the_door() -> None:
    for kind in get_args(AnyEvent):
        assert getattr(loom, kind.__name__) is kind
    assert loom.AnyEvent is AnyEvent


@tool(destructive=True)
def write(text: str, context: ToolContext) -> dict[str, Any]:
    """Write."""
    context.emit("half", data={"where": Path("a/b"), 1: {2, 3}, "odd": object})
    return {"text": text}


async def test_review_j_every_payload_is_plain_json() -> None:
    provider = ScriptedProvider([say("", call("write", text="x"), thinking="hm"), "done"])
    session = Agent(model=provider, tools=[write]).session("s")
    first = session.start("go")
    seen = [event async for event in first]
    second = session.resume(first.id, [(await first).pending[0].approve(by="ana")])
    seen += [event async for event in second]
    kinds = {event.type for event in seen}
    assert {"run.started", "model.replied", "request.opened", "tool.progress", "tool.finished"} <= kinds
    for event in seen:
        assert json.loads(json.dumps(event.payload)) == event.payload, event.type
    (progress,) = [event for event in seen if isinstance(event, ToolProgress)]
    assert progress.payload["data"] == {"where": "a/b", "1": [2, 3], "odd": str(object)}
    started = seen[0].payload
    assert (started["prompt"], started["session_id"], started["task"]["goal"]) == ("go", "s", "go")


async def test_review_j_a_payload_read_back_from_a_log_is_the_same() -> None:
    result = await Agent(model=ScriptedProvider([call("gone"), "done"])).run("go")
    for event in result.events:
        assert decode_event(encode_event(event)).payload == event.payload


@pytest.mark.parametrize("odd", [2**70, "half \ud83d", float("nan"), {1: {2: (3,)}}], ids=repr)
def test_review_j_nothing_in_an_event_keeps_it_from_being_shown(odd: Any) -> None:
    payload = ToolProgress(call_id="c", data=[odd]).payload
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload


def test_review_j_a_payload_is_a_copy() -> None:
    event = ModelReplied(iteration=1, message=ChatMessage(Role.ASSISTANT, "hi"))
    event.payload["message"]["content"] = "changed"
    assert event.payload["message"]["content"] == "hi"
    assert event.fields["message"] is event.message


async def test_review_j_hooks_still_get_the_values_themselves() -> None:
    seen: list[Any] = []
    agent = Agent(model=ScriptedProvider(["done"]))
    agent.on("model.replied", lambda **event: seen.append(event["message"]))
    await agent.run("go")
    assert isinstance(seen[0], ChatMessage)


def test_checkers_know_every_option_of_an_agent() -> None:
    given = set(inspect.signature(Agent.__init__).parameters) - {"self"}
    assert given == {*_AgentOptions.__annotations__, "output_type", "deps"}


def test_an_event_is_what_its_fields_say() -> None:
    class Mine(Event, frozen=True, kw_only=True, tag="mine"):
        type = "mine"
        n: int

    event = Mine(n=1, seq=3)
    assert (event.payload, event.fields) == ({"n": 1}, {"n": 1})
    assert json.loads(msgspec.json.encode(event)) == {"type": "mine", "n": 1, "seq": 3}
