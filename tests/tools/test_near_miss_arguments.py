"""Near-miss arguments: read as they were meant where that is certain, before any gate, and not at all when strict."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, Field

from loom import Agent, GovernancePolicy, PermissionRule, SafetyRule
from loom.errors import ToolArgumentsError
from loom.safety.lenient import loose_json, mended
from loom.testing import ScriptedProvider, call
from loom.tools.base import ToolHandler
from loom.tools.function import FunctionTool, tool
from loom.types import Role, ToolCall, ToolResult, ToolSpec


class Size(BaseModel):
    width: int
    tags: list[str] = []


@dataclass
class Spot:
    x: float
    y: float = 0.0


class Row(TypedDict):
    a: int


class Colour(Enum):
    RED = "red"
    BLUE = "Blue"


class Exact(BaseModel, strict=True):
    n: int


def taking(kind: Any, **options: Any) -> tuple[FunctionTool[..., Any], list[Any]]:
    got: list[Any] = []

    def act(x: Any) -> str:
        got.append(x)
        return "done"

    act.__annotations__["x"] = kind
    return tool(**options)(act), got


MEANT: list[tuple[Any, Any, Any]] = [
    (int, "5", 5),
    (int, " -7 ", -7),
    (int, 5.0, 5),
    (float, "1.5", 1.5),
    (float, "1e3", 1000.0),
    (float, 3, 3.0),
    (str, 5, "5"),
    (str, 1.5, "1.5"),
    (bool, "true", True),
    (bool, "False", False),
    (bool, "yes", True),
    (bool, 0, False),
    (int | None, "5", 5),
    (Size, '{"width": 3}', Size(width=3)),
    (Size, '```json\n{"width": 3,}\n```', Size(width=3)),
    (Size, "{'width': 3, 'tags': ['a', 'b']}", Size(width=3, tags=["a", "b"])),
    (Size, {"width": "3", "tags": "a"}, Size(width=3, tags=["a"])),
    (Size | None, '{"width": 3}', Size(width=3)),
    (list[Size], {"width": 3}, [Size(width=3)]),
    (list[Size], '[{"width": "3"}]', [Size(width=3)]),
    (dict[str, int], '{"a": "1"}', {"a": 1}),
    (Row, '{"a": 1}', {"a": 1}),
    (Spot, '{"x": 1}', Spot(1.0)),
    (list[str], "a", ["a"]),
    (list[str], "a, b", ["a, b"]),
    (list[str], '["a", "b",]', ["a", "b"]),
    (list[int], "[1, 2]", [1, 2]),
    (list[int], 4, [4]),
    (list[str] | None, "a", ["a"]),
    (tuple[int, str], '[1, "a"]', (1, "a")),
    (Literal["red", "blue"], "RED", "red"),
    (Colour, " blue ", Colour.BLUE),
]


@pytest.mark.parametrize(("kind", "sent", "value"), MEANT, ids=str)
async def test_near_misses_are_read_as_they_were_meant(kind: Any, sent: Any, value: Any) -> None:
    act, got = taking(kind)
    assert (await act.invoke({"x": sent})).text == "done"
    assert (got, type(got[0])) == ([value], type(value))
    result = await Agent(model=ScriptedProvider([call("act", x=sent), "ok"]), tools=[act]).run("go")
    assert result.ok
    assert got == [value, value]


NOT_MEANT: list[tuple[Any, Any]] = [
    (int, "5 apples"), (int, 5.5), (int, "5.5"), (int, ""), (int, "0x10"), (int, True), (int, [5]), (int, None),
    (int, "5,000"), (int, "1e400"), (float, "nan"), (float, "inf"), (float, "1,5"), (float, False),
    (str, True), (str, None), (str, ["a"]), (str, {"a": 1}), (bool, "maybe"), (bool, 2), (bool, None),
    (Size, "width=3"), (Size, "[1]"), (Size, '{"width": 3'), (Size, 3), (Size, "{'width': (3,)}"),
    (Size, "{'width': __import__('os')}"), (list[Size], "a"), (list[int], "1, 2"), (list[int], None),
    (Literal["red", "RED", "Blue"], "Red"), (Literal["a"], "b"), (dict[str, int], "[]"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "sent"), NOT_MEANT, ids=str)
async def test_what_could_mean_something_else_is_told_to_the_model(kind: Any, sent: Any) -> None:
    act, got = taking(kind)
    with pytest.raises(ToolArgumentsError, match=r"- x"):
        await act.invoke({"x": sent})
    assert got == []


@pytest.mark.parametrize(
    ("kind", "sent"),
    [(int | str, "5"), (str | list[str], "a"), (Any, "5"), (dict[str, Any], {"a": "5"}), (list[Any], ["5"])],
    ids=str,
)
async def test_what_fits_as_it_is_stays_as_it_is(kind: Any, sent: Any) -> None:
    act, got = taking(kind)
    await act.invoke({"x": sent})
    assert got == [sent]


async def test_two_readings_are_none() -> None:
    act, _ = taking(list[int] | list[float])
    with pytest.raises(ToolArgumentsError):
        await act.invoke({"x": "a"})
    schema = {"type": "object", "properties": {"x": {"anyOf": [{"type": "boolean"}, {"type": "integer"}]}}}
    assert mended(schema, {"x": "1"}) == {"x": "1"}
    assert mended(schema, {"x": "2"}) == {"x": 2}


async def test_a_validator_with_its_own_idea_of_a_string_is_asked_first() -> None:
    words, got = taking(
        Annotated[list[str], BeforeValidator(lambda v: v.split() if isinstance(v, str) else v)]
    )
    await words.invoke({"x": "a b"})
    octal, more = taking(Annotated[int, BeforeValidator(lambda v: int(v, 8) if isinstance(v, str) else v)])
    await octal.invoke({"x": "10"})
    assert (got, more) == ([["a", "b"]], [8])
    assert octal.read_arguments({"x": "10"}) == {"x": "10"}


async def test_a_type_that_asks_for_strictness_has_it() -> None:
    act, got = taking(Exact)
    for sent in ({"n": "5"}, '{"n": 5}'):
        with pytest.raises(ToolArgumentsError):
            await act.invoke({"x": sent})
    await act.invoke({"x": {"n": 5}})
    assert got == [Exact(n=5)]


@pytest.mark.parametrize(
    ("kind", "sent", "value"),
    [row for row in MEANT if type(row[1]) is not type(row[2]) or row[1] != row[2]],
    ids=str,
)
async def test_strict_tools_take_nothing_for_what_it_is_not(kind: Any, sent: Any, value: Any) -> None:
    if (kind, sent) == (float, 3):
        return  # every integer is a number
    act, got = taking(kind, strict=True)
    with pytest.raises(ToolArgumentsError):
        await act.invoke({"x": sent})
    loose, _ = taking(kind)
    policy = GovernancePolicy(strict_arguments=True)
    model = ScriptedProvider([call("act", x=sent), "ok"])
    result = await Agent(model=model, tools=[loose], governance=policy).run("go")
    assert any("are wrong" in str(m.content) for m in result.messages if m.role is Role.TOOL)
    assert got == []


class Cube(msgspec.Struct):
    side: int


async def test_strictness_reaches_structs_and_lets_right_values_pass() -> None:
    act, got = taking(Cube, strict=True)
    with pytest.raises(ToolArgumentsError):
        await act.invoke({"x": {"side": "3"}})
    await act.invoke({"x": {"side": 3}})
    both, more = taking(Colour | Size, strict=True)
    await both.invoke({"x": "red"})
    assert (got, more) == ([Cube(3)], [Colour.RED])


async def test_a_parent_that_is_strict_makes_its_children_strict() -> None:
    act, got = taking(int)
    child = Agent(model=ScriptedProvider([call("act", x="5"), "ok"]), tools=[act])
    boss = Agent(
        model=ScriptedProvider([call("ask", task="go"), "ok"]),
        tools=[child.as_tool(name="ask", description="Ask.")],
        governance=GovernancePolicy(strict_arguments=True),
    )
    await boss.run("go")
    assert got == []


# --- whole arguments ------------------------------------------------------------------------------------


NEARLY = [
    '{"x": 5,}',
    "{'x': 5}",
    '```json\n{"x": 5}\n```',
    '"{\\"x\\": 5}"',
    '\ufeff{"x": 5}',
    '{"x": "5",}',
]


@pytest.mark.parametrize("text", NEARLY)
@pytest.mark.parametrize("strict", [False, True])
async def test_arguments_that_are_nearly_json(text: str, strict: bool) -> None:
    act, got = taking(int, strict=strict)
    model = ScriptedProvider([ToolCall("c", "act", text), "ok"])
    await Agent(model=model, tools=[act]).run("go")
    assert got == ([] if strict else [5])


@pytest.mark.parametrize("text", ['{"x": 5', "x=5", "[5]", "null", '{"x": ,5}', "{'x': open('f')}", "{1: 2}"])
async def test_arguments_of_which_nothing_can_be_told(text: str) -> None:
    act, got = taking(int)
    result = await Agent(model=ScriptedProvider([ToolCall("c", "act", text), "ok"]), tools=[act]).run("go")
    assert (got, result.ok) == ([], True)


# --- gates see what will run ----------------------------------------------------------------------------


async def test_a_veto_sees_the_value_that_the_tool_would_get() -> None:
    act, got = taking(bool)
    for sent in ("true", "yes", 1, True):
        rule = SafetyRule.when_argument_equals(
            name="no", tool_name="act", argument="x", value=True, reason="never"
        )
        model = ScriptedProvider([call("act", x=sent), "ok"])
        result = await Agent(model=model, tools=[act], safety_rules=[rule]).run("go")
        assert any("Vetoed: never" in str(m.content) for m in result.messages), sent
    assert got == []


async def test_a_rule_sees_the_value_that_the_tool_would_get() -> None:
    act, got = taking(Size)
    model = ScriptedProvider([call("act", x='{"width": 3}'), "ok"])
    seen: list[Any] = []
    agent = Agent(model=model, tools=[act])
    agent.on("before_tool", lambda **told: seen.append(told["arguments"]))
    await agent.run("go")
    assert seen == [{"x": {"width": 3}}]
    number, more = taking(int)
    policy = GovernancePolicy(rules=(PermissionRule.deny("act", x="3"),))
    await Agent(model=ScriptedProvider([call("act", x=3.0), "ok"]), tools=[number], governance=policy).run(
        "go"
    )
    assert (len(got), more) == (1, [])


async def test_an_approval_is_asked_for_and_bound_to_what_was_read() -> None:
    act, got = taking(Size, destructive=True)
    sent = '{"width": "3"}'
    agent = Agent(model=ScriptedProvider([call("act", x=sent), "ok"]), tools=[act])
    session = agent.session("s")
    waiting = await session.run("go")
    (request,) = waiting.pending
    assert msgspec.json.decode(request.arguments) == {"x": {"width": 3}}
    result = await session.resume(waiting.run_id, [request.approve()])
    assert result.ok
    assert got == [Size(width=3)]
    decided = next(e for e in result.events if e.type == "tool.decided")
    assert decided.payload["digest"] == request.digest


# --- tools with a schema and no types -------------------------------------------------------------------


class Plain(ToolHandler):
    def __init__(self, **spec: Any) -> None:
        self.got: list[Any] = []
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        self._spec = ToolSpec(**{"name": "plain", "parameters": schema, **spec})

    @property
    def tool(self) -> ToolSpec:
        return self._spec

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        self.got.append(args)
        return ToolResult("done")


@pytest.mark.parametrize(("strict", "got"), [(False, [{"n": 5}]), (True, [])])
async def test_handlers_that_bring_a_schema(strict: bool, got: list[Any]) -> None:
    handler = Plain(strict=strict)
    await Agent(model=ScriptedProvider([call("plain", n="5"), "ok"]), tools=[handler]).run("go")
    assert handler.got == got
    bad = Plain()
    result = await Agent(model=ScriptedProvider([call("plain", n="5", m=1), "ok"]), tools=[bad]).run("go")
    assert bad.got == []
    assert any("there is no such argument" in str(m.content) for m in result.messages)


# --- the reading itself ---------------------------------------------------------------------------------


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
SCHEMAS = st.recursive(
    st.sampled_from([{"type": kind} for kind in ("integer", "number", "string", "boolean", "null")])
    | st.just({"enum": ["red", "Blue", 1]}),
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(lambda a: {"type": "object", "properties": {"a": a}}, inner)
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(SCHEMAS, VALUES)
def test_reading_twice_changes_nothing_more(schema: dict[str, Any], value: Any) -> None:
    root = {"type": "object", "properties": {"x": schema}}
    once = mended(root, {"x": value})
    assert mended(root, once) == once
    assert repr(mended(root, once)) == repr(once)


@settings(deadline=None)
@given(VALUES)
def test_loose_json_reads_json_and_python(value: Any) -> None:
    assert loose_json(msgspec.json.encode(value).decode()) == value
    if isinstance(value, dict | list):
        assert loose_json(repr(value)) == ast.literal_eval(repr(value))


@pytest.mark.parametrize(
    "text", ["x" * 100_001, "[" * 5000, "{" * 5000 + "}" * 5000, "", "{}{}", "(1,)", "1_0"]
)
def test_loose_json_refuses_the_rest(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loose_json(text)


def test_commas_in_strings_stay() -> None:
    assert loose_json('{"a": "b,]", "c": "d\\",}",}') == {"a": "b,]", "c": 'd",}'}


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}},
    }
    assert mended(schema, {"x": "a"}) == {"x": "a"}


async def test_a_number_bound_still_holds_after_reading() -> None:
    act, got = taking(Annotated[int, Field(ge=1, le=3)])
    with pytest.raises(ToolArgumentsError):
        await act.invoke({"x": "4"})
    await act.invoke({"x": "3"})
    assert got == [3]
