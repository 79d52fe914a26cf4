"""Validators, constructors and serialisers are the application's code: whatever they raise is told to the model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, NoReturn
from zoneinfo import ZoneInfo

import msgspec
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    WithJsonSchema,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)

from loom import Agent, RunState
from loom.assembly.output import OutputSpec
from loom.errors import ConfigError, OutputInvalid, ToolArgumentsError, ToolError, ToolExecutionError
from loom.testing import ScriptedProvider, call
from loom.tools.base import Parked
from loom.tools.function import FunctionTool, as_handler, tool
from loom.tools.registry import ToolRegistry
from loom.types import Role, ToolResult, ToolSpec, to_json


class Mute(Exception):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        raise LookupError

    __repr__ = __str__


class MuteValue(ValueError):
    def __str__(self) -> str:
        raise LookupError

    __repr__ = __str__


def fails(error: BaseException, *_: Any) -> NoReturn:
    raise error


def name_of(value: object) -> str:
    return type(value).__name__


def raising(error: BaseException) -> Callable[[Any], NoReturn]:
    def validate(value: Any) -> NoReturn:
        raise error

    return validate


class ByField(BaseModel):
    x: str

    @field_validator("x")
    @classmethod
    def look_up(cls, value: str) -> str:
        return {"a": "b"}[value]


class ByModel(BaseModel):
    x: str

    @model_validator(mode="after")
    def look_up(self) -> ByModel:
        raise KeyError(self.x)


class ByInit(BaseModel):
    x: str

    def __init__(self, **data: Any) -> None:
        super().__init__(**data)
        raise KeyError("init")


class ByFactory(BaseModel):
    x: str
    y: str = Field(default_factory=lambda: fails(KeyError("factory")))


@dataclass
class ByPostInit:
    x: str

    def __post_init__(self) -> None:
        raise KeyError(self.x)


class StructPostInit(msgspec.Struct):
    x: str

    def __post_init__(self) -> None:
        raise KeyError(self.x)


SCALARS: list[tuple[Any, str]] = [
    (Annotated[str, BeforeValidator(lambda value: {"a": "b"}[value])], "KeyError: 'no'"),
    (Annotated[str, AfterValidator(Decimal)], "InvalidOperation"),
    (Annotated[str, AfterValidator(lambda value: re.compile(f"({value}"))], "unterminated subpattern"),
    (Annotated[str, AfterValidator(lambda _: ZoneInfo("Mars/Base"))], "ZoneInfoNotFoundError"),
    (Annotated[str, AfterValidator(raising(RecursionError("deep")))], "RecursionError: deep"),
    (Annotated[str, AfterValidator(raising(SystemExit(3)))], "SystemExit: 3"),
    (Annotated[str, AfterValidator(raising(asyncio.CancelledError()))], "CancelledError"),
    (Annotated[str, AfterValidator(raising(GeneratorExit()))], "GeneratorExit"),
    (Annotated[str, AfterValidator(raising(Parked([])))], "Parked"),
    (Annotated[str, AfterValidator(raising(Mute()))], "Mute: (its text cannot be read"),
    (Annotated[str, AfterValidator(raising(MuteValue()))], ""),
    (Annotated[str, AfterValidator(raising(TypeError("odd")))], "TypeError: odd"),
    (Annotated[str, AfterValidator(raising(ConfigError("inner")))], "ConfigError: inner"),
]
OBJECTS: list[tuple[Any, str]] = [
    (ByField, "KeyError: 'no'"),
    (ByModel, "KeyError: 'no'"),
    (ByInit, "KeyError: 'init'"),
    (ByFactory, "KeyError: 'factory'"),
    (ByPostInit, "KeyError: 'no'"),
    (StructPostInit, "KeyError: 'no'"),
]
ALL = [
    *((kind, "no", says) for kind, says in SCALARS),
    *((kind, {"x": "no"}, says) for kind, says in OBJECTS),
]
IDS = [getattr(kind, "__name__", says[:20]) for kind, _, says in ALL]


def taking(kind: Any) -> FunctionTool[..., Any]:
    def look(where: Any, other: int = 1) -> str:
        return "looked"

    look.__annotations__["where"] = kind
    return tool(look)


@pytest.mark.parametrize(("kind", "value", "says"), ALL, ids=IDS)
async def test_review_i_a_validator_that_raises_is_told_to_the_model(
    kind: Any, value: Any, says: str
) -> None:
    model = ScriptedProvider([call("look", where=value, other=2), "sorry"])
    result = await Agent(model=model, tools=[taking(kind)]).run("go")
    assert (result.state, result.output, result.error) == (RunState.COMPLETED, "sorry", None)
    said = next(str(m.content) for m in result.messages if m.role is Role.TOOL)
    assert said.startswith('The arguments of "look" are wrong:')
    assert "- where" in said
    assert says in said


@pytest.mark.parametrize(("kind", "value", "says"), ALL, ids=IDS)
async def test_review_i_an_output_type_that_raises_is_told_to_the_model(
    kind: Any, value: Any, says: str
) -> None:
    model = ScriptedProvider([to_json(value), to_json(value), to_json(value)])
    result = await Agent(model=model, output_type=kind).run("go")
    assert (result.state, result.error and result.error.code) == (RunState.FAILED, "output_invalid")
    critique = next(m.content for m in result.messages[1:] if m.role is Role.USER)
    assert says in str(critique)


async def test_review_i_the_interrupt_of_the_terminal_passes() -> None:
    kind = Annotated[str, AfterValidator(raising(KeyboardInterrupt()))]
    with pytest.raises(KeyboardInterrupt):
        await taking(kind).invoke({"where": "x"})
    with pytest.raises(KeyboardInterrupt):
        OutputSpec.of(kind).parse('"x"')


async def test_review_i_every_place_that_raises_is_named() -> None:
    bad = Annotated[str, AfterValidator(lambda value: {}[value])]

    def pair(one: Any, two: Any, three: int) -> None: ...

    pair.__annotations__.update(one=bad, two=bad)
    with pytest.raises(ToolArgumentsError) as caught:
        await tool(pair).invoke({"one": "a", "two": "b", "three": 3})
    assert "- one: cannot be used: KeyError: 'a'" in str(caught.value)
    assert "- two: cannot be used: KeyError: 'b'" in str(caught.value)
    assert "three:" not in str(caught.value).partition("Valid names")[0]


async def test_review_i_a_tool_error_chooses_its_own_words() -> None:
    kind = Annotated[str, AfterValidator(raising(ToolError("only on Mondays")))]
    model = ScriptedProvider([call("look", where="x"), "sorry"])
    result = await Agent(model=model, tools=[taking(kind)]).run("go")
    assert "only on Mondays" in [m.content for m in result.messages]
    with pytest.raises(OutputInvalid, match=r"^only on Mondays$"):
        OutputSpec.of(kind).parse('"x"')


async def test_review_i_what_a_validator_quotes_holds_no_key() -> None:
    key = "sk-proj-" + "a1B2c3D4e5F6g7H8" * 3
    kind = Annotated[str, AfterValidator(raising(KeyError(f"tried {key}")))]
    model = ScriptedProvider([call("look", where="x"), "sorry"])
    result = await Agent(model=model, tools=[taking(kind)]).run("go")
    assert key not in str(result.messages) + str(result.events)
    assert "KeyError" in str(result.messages)
    failed = await Agent(model=ScriptedProvider(['"x"'] * 5), output_type=kind).run("go")
    assert key not in str(failed.messages) + str(failed.events) + str(failed.error)


async def test_review_i_an_answer_that_passes_once_and_then_no_more_is_no_success() -> None:
    seen: list[str] = []

    def once(value: str) -> str:
        seen.append(value)
        if len(seen) > 1:
            raise KeyError(value)
        return value

    result = await Agent(
        model=ScriptedProvider(['"x"']), output_type=Annotated[str, AfterValidator(once)]
    ).run("go")
    assert (result.state, result.error and result.error.code) == (RunState.FAILED, "output_invalid")


# --- results ------------------------------------------------------------------------------------------


class Computed(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        raise KeyError("sum")


class Serialised(BaseModel):
    x: int = 1

    @field_serializer("x")
    def show(self, value: int) -> str:
        raise KeyError("show")


class Stringly:
    def __str__(self) -> str:
        raise SystemExit(2)


@pytest.mark.parametrize("returned", [Computed(), [Serialised()], Stringly(), {"a": Mute()}], ids=name_of)
async def test_review_i_a_result_that_cannot_be_shown_says_that_the_work_is_done(returned: Any) -> None:
    @tool
    def act() -> Any:
        return returned

    model = ScriptedProvider([call("act"), "sorry"])
    result = await Agent(model=model, tools=[act]).run("go")
    assert (result.state, result.output) == (RunState.COMPLETED, "sorry")
    said = next(str(m.content) for m in result.messages if m.role is Role.TOOL)
    assert said.startswith(("act did its work, but what it returned cannot be shown: ", '{"a":"Mute'))


@pytest.mark.parametrize("raised", [Mute(), MuteValue()], ids=name_of)
@pytest.mark.parametrize("base", [Exception, ToolError])
async def test_review_i_an_error_that_cannot_speak_is_still_a_result(
    raised: Exception, base: type[Exception]
) -> None:
    silent = type("Silent", (type(raised), base), {}) if base is ToolError else type(raised)

    @tool
    def act() -> None:
        raise silent()

    model = ScriptedProvider([call("act"), "sorry"])
    result = await Agent(model=model, tools=[act]).run("go")
    assert (result.state, result.output) == (RunState.COMPLETED, "sorry")
    assert any("cannot be read" in str(m.content) for m in result.messages if m.role is Role.TOOL)


async def test_review_i_a_child_whose_answer_has_no_json_hands_on_its_text() -> None:
    child = Agent(model=ScriptedProvider(['{"x":4}']), output_type=Serialised)
    boss = Agent(
        model=ScriptedProvider([call("ask", task="go"), "done"]),
        tools=[child.as_tool(name="ask", description="Ask.")],
    )
    result = await boss.run("go")
    assert [m.content for m in result.messages if m.role is Role.TOOL] == ['{"x":4}']


# --- handlers of the application ------------------------------------------------------------------------


class Duck:
    def __init__(self, check: Callable[[Any], None] | None = None) -> None:
        if check is not None:
            self.check_arguments = check

    @property
    def tool(self) -> ToolSpec:
        return ToolSpec("duck", "A duck.", {"type": "object", "properties": {}})

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        return ToolResult("quack")


@pytest.mark.parametrize(
    "error", [KeyError("x"), SystemExit(1), asyncio.CancelledError(), Mute()], ids=name_of
)
async def test_review_i_a_check_that_raises_is_told_to_the_model(error: BaseException) -> None:
    model = ScriptedProvider([call("duck"), "sorry"])
    result = await Agent(model=model, tools=[Duck(partial(fails, error))]).run("go")
    assert (result.state, result.output) == (RunState.COMPLETED, "sorry")
    said = next(str(m.content) for m in result.messages if m.role is Role.TOOL)
    assert f"cannot be used: {type(error).__name__}" in said


async def test_review_i_a_handler_that_no_longer_knows_what_it_is_costs_the_call_only() -> None:
    class Forgetful(Duck):
        known = True

        @property
        def tool(self) -> ToolSpec:
            if not self.known:
                raise KeyError("forgotten")
            return super().tool

    handler = Forgetful()

    def forget(**_: Any) -> None:
        handler.known = False

    agent = Agent(model=ScriptedProvider([call("duck"), "sorry"]), tools=[handler])
    agent.on("after_llm", forget)
    result = await agent.run("go")
    assert (result.state, result.output) == (RunState.COMPLETED, "sorry")


# --- declarations ---------------------------------------------------------------------------------------


class NoSchema:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise KeyError("core")


OddlyDescribed = Annotated[int, WithJsonSchema(None)]  # type: ignore[arg-type]


class OddRepr(type):
    def __repr__(cls) -> str:
        raise KeyError("repr")


class NoRepr(metaclass=OddRepr):
    pass


@pytest.mark.parametrize("kind", [NoSchema, list[NoSchema], NoRepr, PlainValidator], ids=list("cirp"))
def test_review_i_a_type_that_cannot_be_described_is_a_config_error(kind: Any) -> None:
    handler = taking(kind)
    with pytest.raises(ConfigError, match="look: the parameter 'where'"):
        _ = handler.tool
    with pytest.raises(ConfigError, match="has no JSON Schema"):
        _ = OutputSpec.of(kind).schema


def test_review_i_annotations_and_signatures_that_raise_are_config_errors() -> None:
    def look(where: Any) -> None: ...

    look.__annotations__["where"] = "1/0"
    with pytest.raises(ConfigError, match=r"'where'.*ZeroDivisionError"):
        _ = tool(look).tool

    class Odd:
        __name__ = "odd"

        @property
        def __signature__(self) -> Any:
            raise KeyError("sign")

        def __call__(self, x: int) -> None: ...

    with pytest.raises(ConfigError, match="signature cannot be read"):
        _ = as_handler(Odd()).tool


def test_review_i_handlers_whose_facts_raise_are_config_errors() -> None:
    class Broken(metaclass=OddRepr):
        @property
        def tool(self) -> ToolSpec:
            raise KeyError("x")

        async def invoke(self, args: dict[str, Any]) -> ToolResult:
            return ToolResult()

        def __repr__(self) -> str:
            raise KeyError("repr")

    with pytest.raises(ConfigError, match="cannot say what it is"):
        as_handler(Broken())
    with pytest.raises(ConfigError, match="cannot say what it is"):
        ToolRegistry([Broken()])  # type: ignore[list-item]


async def test_review_i_a_context_that_cannot_be_shown_is_a_config_error() -> None:
    from loom.tools.base import RunContext

    with pytest.raises(ConfigError, match="plain data"):
        await Agent(model=ScriptedProvider(["x"])).run("go", context=RunContext(inputs={"x": Computed()}))


async def test_review_i_hook_arguments_that_cannot_be_shown_are_told() -> None:
    from loom.safety.hooks import HookOutcome

    @tool
    def act(x: Any = None) -> str:
        return "done"

    agent = Agent(model=ScriptedProvider([call("act"), "sorry"]), tools=[act])
    agent.on("before_tool", lambda **_: HookOutcome.edit(x=Computed()))
    result = await agent.run("go")
    assert (result.state, result.output) == (RunState.COMPLETED, "sorry")
    assert any("not plain data" in str(m.content) for m in result.messages if m.role is Role.TOOL)


def test_review_i_what_a_tool_raises_by_name_stays_what_it_is() -> None:
    with pytest.raises(ToolExecutionError, match="bytes"):
        asyncio.run(_raw())


async def _raw() -> Any:
    @tool
    def raw() -> bytes:
        return b"x"

    return await raw.invoke({})
