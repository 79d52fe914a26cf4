"""Schemas are compiled once per function and type, however many agents are made of them, and die with them."""

from __future__ import annotations

import functools
import gc
import weakref
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from loom import Agent
from loom.assembly.output import shared_spec
from loom.testing import ScriptedProvider, call
from loom.tools.function import as_handler, tool
from loom.tools.registry import ToolRegistry, _tuples


class Answer(BaseModel):
    text: str


class Desk:
    def __init__(self, name: str) -> None:
        self.name = name

    @tool
    def ask(self, question: str) -> str:
        """Ask the desk."""
        return f"{self.name}: {question}"

    def plain(self, question: str) -> str:
        return f"{self.name}, {question}"


def look(where: str) -> str:
    return where


half = functools.partial(look, "here")


@pytest.mark.parametrize("candidate", [look, half, tool(look)], ids=["function", "partial", "tool"])
def test_a_function_is_one_tool(candidate: Any) -> None:
    assert as_handler(candidate) is as_handler(candidate)


@pytest.mark.parametrize("method", ["ask", "plain"])
async def test_what_is_compiled_for_a_method_serves_every_object(method: str) -> None:
    one, two = (as_handler(getattr(Desk(name), method)) for name in ("one", "two"))
    assert one.tool is two.tool
    assert (await one.invoke({"question": "x"})).text.startswith("one")
    assert (await two.invoke({"question": "x"})).text.startswith("two")


async def test_many_agents_of_the_same_parts_share_what_is_compiled() -> None:
    desk = Desk("d")
    agents = [
        Agent(
            model=ScriptedProvider([call("ask", question="x"), '{"text": "ok"}']),
            tools=[desk.ask, look, desk.plain],
            output_type=Answer,
        )
        for _ in range(20)
    ]
    for agent in agents:
        assert (await agent.run("go")).output == Answer(text="ok")
    assert len({id(agent.engine.tools.specs()) for agent in agents}) == 1
    assert len({id(shared_spec(Answer)) for _ in agents}) == 1
    settings = [agent.engine.settings for agent in agents]
    assert len({id(given.output_schema) for given in settings if given is not None}) == 1


def test_other_tools_are_another_tuple() -> None:
    first, second = (
        ToolRegistry([as_handler(look)]),
        ToolRegistry([as_handler(look), as_handler(Desk("d").ask)]),
    )
    assert [spec.name for spec in first.specs()] == ["look"]
    assert [spec.name for spec in second.specs()] == ["ask", "look"]
    second.unregister("ask")
    assert second.specs() is first.specs()


def test_types_that_are_equal_and_differ_are_told_apart() -> None:
    assert shared_spec(int | str) is shared_spec(int | str)
    assert shared_spec(int | str) is not shared_spec(str | int)
    unhashable = Annotated[int, Field(json_schema_extra={"a": []})]
    assert shared_spec(unhashable).parse("3") == 3


def test_what_is_made_per_request_dies_with_it() -> None:
    def request(n: int) -> list[weakref.ref[Any]]:
        big = Desk(str(n))

        def closure(x: int) -> str:
            return f"{big.name}{x}"

        @tool
        def decorated(x: int) -> str:
            return f"{big.name}{x}"

        registry = ToolRegistry([as_handler(closure), decorated, as_handler(big.ask)])
        assert len(registry.specs()) == 3
        return [weakref.ref(big), weakref.ref(closure), weakref.ref(decorated)]

    refs = [ref for n in range(200) for ref in request(n)]
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []
    assert len(_tuples) <= 64


def test_types_made_per_request_are_bounded() -> None:
    refs = [weakref.ref(_typed(n)) for n in range(300)]
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 128


def _typed(n: int) -> type:
    made = type(f"Made{n}", (), {"__annotations__": {"x": int}})
    shared_spec(made)
    return made
