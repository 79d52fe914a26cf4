"""From a signature to a schema: what is described, how, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel, Field

from loom.errors import ConfigError
from loom.tools.base import RunContext, ToolContext
from loom.tools.function import as_handler, tool

if TYPE_CHECKING:
    from nowhere import Hidden


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    a: int
    b: NotRequired[str]


class Box(msgspec.Struct):
    side: int


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


def properties(func: Any) -> dict[str, Any]:
    return as_handler(func).tool.parameters["properties"]


def test_whole_schema_of_a_plain_function() -> None:
    @tool
    def search(query: str, limit: int = 10) -> str:
        """Search the docs.

        Args:
            query: what to look for,
                in plain words
            limit (int): how many
        """
        return query

    assert search.tool.name == "search"
    assert search.tool.description == "Search the docs."
    assert search.tool.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for, in plain words"},
            "limit": {"type": "integer", "description": "how many", "default": 10},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_no_parameters_is_still_an_object_schema() -> None:
    assert tool(lambda_free).tool.parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def lambda_free() -> str:
    return ""


def kinds(
    optional: int | None,
    literal: Literal["a", "b"],
    enum: Color,
    union: int | str,
    strings: list[str],
    mapping: dict[str, int],
    pair: tuple[int, str],
    unique: set[int],
    when: datetime,
    ident: UUID,
    path: Path,
    row: Row,
    point: Point,
    box: Box,
    boxes: list[Box | None],
    anything,  # type: ignore[no-untyped-def]
) -> None: ...


def test_kinds_of_annotations() -> None:
    found = properties(kinds)
    assert found["optional"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert found["literal"]["enum"] == ["a", "b"]
    assert found["enum"] == {"type": "string", "enum": ["red", "blue"]}
    assert found["union"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert found["strings"] == {"type": "array", "items": {"type": "string"}}
    assert found["mapping"] == {"type": "object", "additionalProperties": {"type": "integer"}}
    assert [item["type"] for item in found["pair"]["prefixItems"]] == ["integer", "string"]
    assert found["unique"]["uniqueItems"] is True
    assert found["when"]["format"] == "date-time"
    assert found["ident"]["format"] == "uuid"
    assert found["path"]["type"] == "string"
    assert found["row"]["required"] == ["a"]
    assert found["row"]["additionalProperties"] is False
    assert found["point"]["required"] == ["x"]
    assert found["box"]["properties"] == {"side": {"type": "integer"}}
    assert found["boxes"]["items"]["anyOf"][0] == found["box"]
    assert found["anything"] == {}


def test_no_titles_and_no_references_but_a_property_called_title_stays() -> None:
    class Book(BaseModel):
        title: str
        default: int = 3

    def add(book: Book, again: Book, title: str) -> None: ...

    found = tool(add).tool.parameters
    assert "$defs" not in found
    assert found["properties"]["title"] == {"type": "string"}
    assert found["properties"]["book"]["properties"]["title"] == {"type": "string"}
    assert found["properties"]["book"] == found["properties"]["again"]


def test_a_recursive_model_keeps_its_definition() -> None:
    def plant(tree: Tree) -> None: ...

    found = as_handler(plant).tool.parameters
    assert found["properties"]["tree"]["$ref"] == "#/$defs/Tree"
    assert list(found["$defs"]) == ["Tree"]


def test_documentation_sources_in_order_of_precedence() -> None:
    def f(
        a: Annotated[int, "from annotated"],
        b: Annotated[int, Field(description="from field", ge=1)],
        c: int,
        d: Annotated[Point, "the corner"],
        e: int = Field(3, description="from default"),
    ) -> None:
        """F.

        Args:
            a: docstring
            b: docstring
            c: docstring
        """

    found = properties(f)
    assert found["a"]["description"] == "from annotated"
    assert found["b"] == {"type": "integer", "description": "from field", "minimum": 1}
    assert found["c"]["description"] == "docstring"
    assert found["d"]["description"] == "the corner"
    assert found["e"] == {"type": "integer", "description": "from default", "default": 3}


OPENING = "One line\ngoes on.\n\nMore.\n\n"


@pytest.mark.parametrize(
    "sections",
    [
        "Args:\n    a: the a\n    b (str, optional): the b\n        goes on\n\nReturns:\n    x: y",
        "Parameters\n----------\na : int\n    the a\nb : str\n    the b\n    goes on\n\n"
        "Returns\n-------\nx : int\n    no",
        ":param a: the a\n:param str b: the b\n    goes on\n:returns: x",
    ],
)
def test_docstring_styles(sections: str) -> None:
    def f(a: int, b: str, x: int = 0) -> None: ...

    f.__doc__ = OPENING + sections
    handler = as_handler(f)
    assert handler.tool.description == "One line goes on."
    found = handler.tool.parameters["properties"]
    assert found["a"]["description"] == "the a"
    assert found["b"]["description"] == "the b goes on"
    assert "description" not in found["x"]


def test_names_that_pydantic_keeps_for_itself() -> None:
    def f(json: int, copy: int, model_config: int, schema: int, _hidden: int, self_: int) -> None: ...

    assert list(properties(f)) == ["json", "copy", "model_config", "schema", "_hidden", "self_"]


def test_default_that_is_no_json_is_left_out_without_a_warning() -> None:
    def f(a: Any = object(), b: set[str] = {"z", "a", "m"}) -> None: ...  # noqa: B006, B008 - the point

    found = properties(f)
    assert found["a"] == {}
    assert found["b"]["default"] == ["a", "m", "z"]


def test_alias_of_the_user_is_the_name_for_the_model() -> None:
    def f(from_: Annotated[str, Field(alias="from")]) -> None: ...

    assert list(properties(f)) == ["from"]


def test_names_local_to_a_function_are_found() -> None:
    class Local(TypedDict):
        n: int

    @tool
    def bare(item: Local, more: list[Local] | None = None) -> None: ...

    @tool(read_only=True)
    def with_options(item: Local) -> None: ...

    assert bare.tool.parameters["properties"]["item"]["required"] == ["n"]
    assert with_options.tool.parameters["properties"]["item"]["required"] == ["n"]


def test_name_that_cannot_be_found_is_named() -> None:
    @tool
    def f(ok: int, item: Hidden) -> None: ...

    with pytest.raises(ConfigError, match=r"f: .*'item'.*Hidden"):
        _ = f.tool


def test_context_is_not_in_the_schema_even_with_a_hidden_type_argument() -> None:
    def a(q: str, ctx: ToolContext[int]) -> None: ...
    def b(ctx: RunContext, q: str) -> None: ...
    def c(q: str, ctx: ToolContext[Hidden]) -> None: ...
    def d(q: str, ctx: ToolContext[Any] | None = None) -> None: ...
    def e(q: str, ctx: Annotated[ToolContext[Any], "x"]) -> None: ...

    for func in (a, b, c, d, e):
        assert list(properties(func)) == ["q"], func


def test_two_contexts_are_refused() -> None:
    def f(a: ToolContext, b: RunContext) -> None: ...

    with pytest.raises(ConfigError, match=r"f: .*\(a, b\)"):
        _ = as_handler(f).tool


def test_stars_are_refused_when_decorating() -> None:
    def args(*values: int) -> None: ...
    def kwargs(a: int, **more: int) -> None: ...

    for func in (args, kwargs):
        with pytest.raises(ConfigError, match=func.__name__):
            tool(func)


def test_generators_are_refused_when_decorating() -> None:
    def plain() -> Iterator[int]:
        yield 1

    async def other() -> Any:
        yield 1

    for func in (plain, other):
        with pytest.raises(ConfigError, match="generator"):
            tool(func)


def test_type_that_has_no_schema_names_function_and_parameter() -> None:
    class Connection: ...

    @tool
    def query(sql: str, connection: Connection) -> None: ...

    with pytest.raises(ConfigError, match=r"query: .*'connection'"):
        _ = query.tool


def test_unbound_method_is_refused_and_bound_one_is_not() -> None:
    class Service:
        @tool(name="look", read_only=True)
        def look(self, q: str) -> str:
            """Look."""
            return f"{id(self)}:{q}"

    service = Service()
    assert service.look("a") == f"{id(service)}:a"
    assert list(service.look.tool.parameters["properties"]) == ["q"]
    assert service.look.tool.read_only
    with pytest.raises(ConfigError, match="method"):
        _ = Service.look.tool


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 65, "<lambda>", "a.b"])
def test_names_no_service_accepts(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        tool(name=name)(lambda_free)


def test_contradicting_options() -> None:
    with pytest.raises(ConfigError):
        tool(read_only=True, destructive=True)
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="timeout"):
            tool(timeout=bad)


def test_facts_arrive_in_the_spec() -> None:
    made = tool(
        name="n", description="d", destructive=True, concurrency_safe=True, idempotent=True, timeout=2.5
    )(lambda_free)
    spec = made.tool
    assert (spec.name, spec.description, spec.destructive, spec.concurrency_safe) == ("n", "d", True, True)
    assert (spec.idempotent, spec.timeout, spec.needs_approval, spec.asks) == (True, 2.5, None, True)
    assert tool(requires_permission=False, destructive=True)(lambda_free).tool.asks is False
    assert tool(requires_permission=True)(lambda_free).tool.asks is True


def test_spec_is_built_once() -> None:
    made = tool(lambda_free)
    assert made.tool is made.tool


def test_decorating_does_not_import_pydantic_and_schemas_are_equal_in_every_process() -> None:
    code = (
        "import sys\n"
        "from loom.tools.function import tool\n"
        "@tool\n"
        "def f(a: int, b: set[str] = {'x', 'y', 'zz'}, c: dict[str, float] | None = None) -> str: return ''\n"
        "assert 'pydantic' not in sys.modules, 'pydantic was imported'\n"
        "import json; print(json.dumps(f.tool.parameters))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_sharing_definitions_cannot_explode() -> None:
    previous: Any = int
    for depth in range(24):  # each refers twice to the one before: 2**24 nodes when inlined
        fields = {"left": (previous, ...), "right": (previous, ...)}
        from pydantic import create_model

        previous = create_model(f"Level{depth}", **fields)  # type: ignore[call-overload]

    def f(top) -> None: ...  # type: ignore[no-untyped-def]

    f.__annotations__["top"] = previous
    assert len(str(as_handler(f).tool.parameters)) < 200_000


def test_as_handler() -> None:
    handler = as_handler(lambda_free)
    assert as_handler(lambda_free) is handler
    assert as_handler(handler) is handler

    class Duck:
        tool = handler.tool

        async def invoke(self, args: dict[str, Any]) -> Any: ...

    duck = Duck()
    assert as_handler(duck) is duck  # type: ignore[comparison-overlap]
    for wrong in (Duck, 3, "x", None, object(), type("Odd", (), {"tool": 3, "invoke": 1})()):
        with pytest.raises(ConfigError):
            as_handler(wrong)
