"""``as_tool(parameters=)``: an agent that is asked for more than a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest
from pydantic import BaseModel, Field, field_validator

from loom import Agent, GovernancePolicy
from loom.errors import ConfigError
from loom.testing import ScriptedProvider, call
from loom.types import Role


class Order(BaseModel):
    """An order."""

    item: str
    count: int = Field(1, ge=1, description="How many.")

    @field_validator("item")
    @classmethod
    def known(cls, value: str) -> str:
        return {"tea": "green tea", "milk": "milk"}[value]


@dataclass
class Place:
    item: str
    count: int = 1


class Row(TypedDict):
    item: str


class Cube(msgspec.Struct):
    item: str
    count: int = 1


def house(
    parameters: Any, *calls: dict[str, Any], **options: Any
) -> tuple[Agent[Any, Any], ScriptedProvider]:
    model = ScriptedProvider(["bought"] * 5)
    child = Agent(model=model)
    shop = child.as_tool(name="shop", description="Buy something.", parameters=parameters)
    replies = [*(call("shop", **args) for args in calls), "ok"]
    return Agent(model=ScriptedProvider(replies), tools=[shop], **options), model


def said(result: Any) -> list[str]:
    return [str(m.content) for m in result.messages if m.role is Role.TOOL]


@pytest.mark.parametrize(
    ("parameters", "asked"),
    [
        (Order, '{"item":"green tea","count":1}'),
        (Place, '{"item":"tea","count":1}'),
        (Row, '{"item":"tea"}'),
        (Cube, '{"item":"tea","count":1}'),
    ],
    ids=["model", "dataclass", "dict", "struct"],
)
async def test_the_child_is_asked_with_validated_arguments(parameters: Any, asked: str) -> None:
    boss, model = house(parameters, {"item": "tea"})
    result = await boss.run("go")
    assert said(result) == ["bought"]
    task = str(model.requests[0].messages[-1].content)
    assert task.startswith("Buy something.")
    for piece in asked.strip("{}").split(","):
        assert piece in task


async def test_what_does_not_fit_is_told_and_no_child_begins() -> None:
    boss, model = house(
        Order, {"item": "tea", "count": 0}, {"item": "sand"}, {"count": 2}, {"item": "tea", "count": True}
    )
    result = await boss.run("go")
    texts = said(result)
    assert "- count: should be greater than or equal to 1" in texts[0]
    assert "- item: cannot be used: KeyError: 'sand'" in texts[1]
    assert "- item: is required but missing" in texts[2]
    assert "- count: should not be a boolean" in texts[3]
    assert model.requests == []
    assert not [e for e in result.events if e.type == "child.started"]


async def test_near_misses_are_read_unless_the_policy_is_strict() -> None:
    boss, model = house(Cube, {"item": 5, "count": "2"})
    assert said(await boss.run("go")) == ["bought"]
    assert '"item":"5"' in str(model.requests[0].messages[-1].content).replace(" ", "")
    strict, _ = house(Cube, {"item": 5}, governance=GovernancePolicy(strict_arguments=True))
    assert "- item: should be a string" in said(await strict.run("go"))[0]


async def test_the_model_is_shown_the_type() -> None:
    child = Agent(model=ScriptedProvider(["x"]))
    shop = child.as_tool(name="shop", description="Buy something.", parameters=Order)
    assert shop.parameters["properties"]["count"]["description"] == "How many."
    assert shop.parameters["required"] == ["item"]
    plain = child.as_tool(name="ask", description="Ask.")
    assert list(plain.parameters["properties"]) == ["task"]


@pytest.mark.parametrize("parameters", [int, list[int], str, "Order", 3], ids=str)
def test_a_type_without_fields_is_a_config_error(parameters: Any) -> None:
    with pytest.raises(ConfigError, match=r"shop: .*parameters"):
        Agent().as_tool(name="shop", description="Buy something.", parameters=parameters)
