"""Which way Anthropic is asked for a shape, and which schemas its own way can say."""

import json
from typing import Any

import pytest
from wires import HELLO, anthropic

from loom.llm.anthropic_shape import native_schema, way_of
from loom.llm.base import ModelSettings

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer"}},
    "required": ["name"],
}


async def sent(schema: dict[str, Any], **options: Any) -> dict[str, Any]:
    provider = anthropic("http://h", **options)
    settings = ModelSettings(output_schema=schema)
    body: dict[str, Any] = json.loads((await provider._request(HELLO, None, "m", settings, False)).body)
    return body


@pytest.mark.parametrize(
    ("model", "way"),
    [
        ("claude-sonnet-4-5", "native"),
        ("claude-sonnet-4-5-20250929", "native"),
        ("claude-haiku-4-5-20251001", "native"),
        ("claude-opus-4-6", "native"),
        ("claude-opus-4-20250514", "tool"),
        ("claude-opus-4-1", "tool"),
        ("claude-sonnet-4-0", "tool"),
        ("claude-3-7-sonnet-latest", "tool"),
        ("MiniMax-M2", "tool"),
    ],
)
def test_the_way_follows_from_the_name(model: str, way: str) -> None:
    assert way_of(model) == way


async def test_the_ways_in_a_request() -> None:
    native = await sent(PERSON, structured="native", extensions={"output_config": {"effort": "low"}})
    assert native["output_config"]["effort"] == "low"
    assert native["output_config"]["format"]["type"] == "json_schema"
    assert "tools" not in native
    assert (await sent(PERSON, structured="tool"))["tool_choice"] == {"type": "tool", "name": "output"}
    prompted = await sent(PERSON, structured="prompt")
    assert "tools" not in prompted
    assert '"minLength":1' in prompted["system"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"m": {"type": "object"}}},
        {
            "type": "object",
            "properties": {"node": {"$ref": "#/$defs/Node"}},
            "$defs": {
                "Node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Other"}]}}},
                "Other": {"type": "object", "properties": {"back": {"$ref": "#/$defs/Node"}}},
            },
        },
    ],
)
async def test_what_the_native_way_cannot_say_becomes_a_tool(schema: dict[str, Any]) -> None:
    assert native_schema(schema) is None
    body = await sent(schema, structured="native")
    assert body["tool_choice"] == {"type": "tool", "name": "output"}
    assert body["tools"][0]["input_schema"] == schema
    assert "output_config" not in body


def test_objects_are_closed_and_bounds_become_words() -> None:
    assert native_schema(PERSON) == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": 'Must fit the JSON Schema {"minLength":1}.'},
            "age": {"type": "integer"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def test_words_of_the_dialect_stay_and_names_of_the_users_are_not_words() -> None:
    schema = {
        "type": "object",
        "title": "T",
        "properties": {
            "minimum": {"type": "string", "format": "email"},
            "properties": {"enum": ["a", "b"], "default": "a"},
            "list": {"type": "array", "items": {"type": "number"}, "minItems": 1},
            "many": {"type": "array", "items": {"$ref": "#/$defs/P"}, "minItems": 3, "description": "Three."},
            "either": {"oneOf": [{"type": "null"}, {"const": 4}]},
            "odd": {"type": "string", "format": "phone"},
        },
        "$defs": {"P": {"type": "object", "properties": {}, "required": []}},
        "additionalProperties": False,
    }
    said = native_schema(schema)
    assert said is not None
    own: Any = said["properties"]
    assert own["minimum"] == {"type": "string", "format": "email"}
    assert own["properties"] == {"enum": ["a", "b"], "default": "a"}
    assert own["list"] == {"type": "array", "items": {"type": "number"}, "minItems": 1}
    assert own["many"]["description"] == 'Three.\n\nMust fit the JSON Schema {"minItems":3}.'
    assert own["either"] == {"anyOf": [{"type": "null"}, {"const": 4}]}
    assert own["odd"]["description"] == 'Must fit the JSON Schema {"format":"phone"}.'
    assert said["$defs"]["P"]["additionalProperties"] is False
    assert native_schema(said) == said  # saying it twice changes nothing
    assert schema["properties"]["many"]["minItems"] == 3  # type: ignore[index]
