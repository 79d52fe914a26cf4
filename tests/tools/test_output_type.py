"""``output_type``: the schema that is asked for, and the reading of what was answered."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from typing import Any, TypedDict

import msgspec
import pytest
from pydantic import BaseModel

from loom.assembly.output import OutputSpec
from loom.errors import ConfigError, OutputInvalid


class City(BaseModel):
    name: str
    people: int


@dataclass
class Spot:
    x: int
    label: str = ""


class Row(TypedDict):
    a: int


class Cube(msgspec.Struct):
    side: int


class Strict(BaseModel, strict=True):
    when: date


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (City, '{"name":"Bonn","people":"3"}', City(name="Bonn", people=3)),
        (Spot, '{"x":1}', Spot(1)),
        (Row, '{"a":1}', {"a": 1}),
        (Cube, '{"side":2}', Cube(2)),
        (list[Spot], '[{"x":1}]', [Spot(1)]),
        (int | None, "null", None),
        (int, "3", 3),
        (Strict, '{"when":"2024-01-02"}', Strict(when=date(2024, 1, 2))),
        (str, "as it is ```", "as it is ```"),
    ],
)
def test_kinds(kind: Any, text: str, value: Any) -> None:
    assert OutputSpec.of(kind).parse(text) == value
    assert "title" not in str(OutputSpec.of(kind).schema)


@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1}',
        '  \n{"x": 1}\n',
        '```json\n{"x": 1}\n```',
        '```\n{"x": 1}\n```',
        'Here you are:\n\n```JSON\n{\n "x": 1\n}\n```\nGood luck!',
        '\ufeff{"x": 1}',
        '{"x": 1, "label": ""}',
    ],
)
def test_bare_or_in_one_fence(text: str) -> None:
    assert OutputSpec.of(Spot).parse(text) == Spot(1)


def test_a_fence_inside_a_string_is_content() -> None:
    assert OutputSpec.of(Spot).parse('{"x": 1, "label": "```json\\n{}\\n```"}').label.startswith("```")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("I think x is 1", "not valid JSON"),
        ('{"x": 1', "not valid JSON"),
        ('{"x": 1} trailing', "not valid JSON"),
        ('{"x": NaN}', "not valid JSON"),
        ('```json\n{"x":1}\n```\nor\n```json\n{"x":2}\n```', "2 code fences"),
        ('```python\n{"x":1}\n```', "not valid JSON"),
        ("{}", "x: is required but missing"),
        ('{"x": true}', "x: should not be a boolean"),
        ('{"x": "one"}', 'x: should be a valid integer.*got the string "one"'),
        ("[]", "got an array"),
        ('{"x": "\\ud800"}', "."),
        ("[" * 100_000, "."),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    with pytest.raises(OutputInvalid, match=says) as caught:
        OutputSpec.of(Spot).parse(text)
    assert len(str(caught.value)) < 3000


def test_name_and_schema() -> None:
    spec = OutputSpec.of(City)
    assert spec.name == "City"
    assert spec.schema["required"] == ["name", "people"]
    assert spec.schema is spec.schema
    assert OutputSpec.of(list[City]).name.isidentifier()


def test_type_without_a_schema() -> None:
    class Connection: ...

    with pytest.raises(ConfigError, match="Connection"):
        _ = OutputSpec.of(Connection).schema


def test_making_one_does_not_import_pydantic() -> None:
    code = (
        "import sys\nfrom loom.assembly.output import OutputSpec\n"
        "OutputSpec.of(dict)\nassert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
