"""Validators see the run: ``info.context`` is its ``RunContext``, for arguments and for typed output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, ValidationInfo, field_validator

from loom import Agent, RunState
from loom.errors import OutputInvalid
from loom.store.file import FileSessionStore
from loom.testing import ScriptedProvider, call
from loom.tools.base import RunContext
from loom.tools.function import tool
from loom.types import Role


@dataclass
class Shop:
    open: set[str]


def known(value: str, info: ValidationInfo) -> str:
    context: RunContext[Shop] = info.context
    if value not in context.deps.open:
        raise ValueError(f"no such shop, only {', '.join(sorted(context.deps.open))}")
    return value


ShopName = Annotated[str, AfterValidator(known)]


class Visit(BaseModel):
    shop: str

    @field_validator("shop")
    @classmethod
    def look_up(cls, value: str, info: ValidationInfo) -> str:
        return known(value, info)


@tool
async def visit(shop: ShopName, again: Visit | None = None) -> str:
    return f"been to {shop}"


async def test_arguments_are_validated_with_the_run_s_deps() -> None:
    replies = [
        call("visit", shop="north"),
        call("visit", shop="south", again={"shop": "east"}),
        call("visit", shop="south"),
        "ok",
    ]
    model = ScriptedProvider(replies)
    agent: Agent[str, Shop] = Agent(model=model, tools=[visit], deps=Shop({"south"}))
    result = await agent.run("go")
    said = [str(m.content) for m in result.messages if m.role is Role.TOOL]
    assert "no such shop, only south" in said[0]
    assert "again.shop" in said[1]
    assert said[2] == "been to south"
    other = await Agent(model=ScriptedProvider([call("visit", shop="north"), "ok"]), tools=[visit]).run(
        "go", deps=Shop({"north"})
    )
    assert "been to north" in [m.content for m in other.messages]


async def test_inputs_of_the_run_are_there_too() -> None:
    seen: list[Any] = []

    def note(value: str, info: ValidationInfo) -> str:
        seen.append(info.context.inputs)
        return value

    @tool
    def act(x: Annotated[str, AfterValidator(note)]) -> None: ...

    agent = Agent(model=ScriptedProvider([call("act", x="1"), "ok"]), tools=[act])
    await agent.run("go", context=RunContext(inputs={"who": "ana"}))
    assert seen
    assert all(inputs == {"who": "ana"} for inputs in seen)


async def test_typed_output_is_validated_with_the_run_s_deps(tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path / "log")
    agent: Agent[Visit, Shop] = Agent(
        model=ScriptedProvider(['{"shop": "north"}', '{"shop": "south"}']),
        output_type=Visit,
        deps=Shop({"south"}),
        session_store=store,
    )
    result = await agent.session("s").run("where?")
    assert (result.output, result.iterations) == (Visit.model_construct(shop="south"), 2)
    assert any("only south" in str(m.content) for m in result.messages)
    again = Agent(model=ScriptedProvider([]), output_type=Visit, session_store=store).session("s")
    read = await again.resume(result.run_id, deps=Shop({"south"}))
    assert read.output == result.output
    shut = await again.resume(result.run_id, deps=Shop(set()))
    assert (shut.state, shut.error and shut.error.code) == (RunState.FAILED, OutputInvalid.code)
    await store.aclose()


async def test_outside_of_a_run_a_validator_that_needs_one_fails_like_any_other() -> None:
    with pytest.raises(Exception, match="AttributeError"):
        await visit.invoke({"shop": "south"})
