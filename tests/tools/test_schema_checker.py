"""The checker for handlers that bring a JSON Schema and no types."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.errors import ToolArgumentsError
from loom.safety.schema import validate_arguments
from loom.types import ToolSpec


def fits(schema: dict[str, Any], args: Any) -> bool:
    return complaint(schema, args) == ""


def complaint(schema: dict[str, Any], args: Any) -> str:
    try:
        validate_arguments(ToolSpec("t", parameters=schema), args)
    except ToolArgumentsError as error:
        return str(error)
    return ""


def one(schema: dict[str, Any], value: Any) -> bool:
    return fits({"type": "object", "properties": {"v": schema}}, {"v": value})


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [1, 0, -1, 3.0, 2**90], [True, 1.5, "1", None, [], float("nan")]),
        ({"type": "number"}, [1, 1.5], [True, "1", float("nan"), float("inf")]),
        ({"type": "string"}, ["", "a"], [1, None, ["a"]]),
        ({"type": "boolean"}, [True, False], [0, 1, "true"]),
        ({"type": "null"}, [None], [0, "", False]),
        ({"type": "array"}, [[]], [{}, "[]"]),
        ({"type": "object"}, [{}], [[], "{}"]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"enum": [1, "a", None]}, [1, "a", None], [True, "b", 0]),
        ({"const": 1}, [1, 1.0], [True, 2]),
        ({"minimum": 1, "maximum": 3}, [1, 3, "free", True], [0, 4, 3.1]),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 3}, [2], [1, 3]),
        ({"minLength": 1, "maxLength": 2}, ["a", "é!"], ["", "abc"]),
        ({"minItems": 1, "maxItems": 2}, [[1]], [[], [1, 2, 3]]),
        ({"items": {"type": "integer"}}, [[], [1, 2]], [[1, "a"], [True]]),
        ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, [[1, "a"]], [["a"], [1, 2]]),
        ({"pattern": "^a+$"}, ["aa", 3], ["b", "aab"]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [None, True, 1.5]),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, [1, 1.5], ["a"]),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, [2], [0, 4]),
        ({"additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "b"}]),
        ({"properties": {"a": {}}, "additionalProperties": False}, [{"a": 1}], [{"b": 1}]),
        ({"properties": {"a": {}}}, [{"b": 1}], []),
        (False, [], [1, None]),
        (True, [1, None], []),
        ({"format": "email", "not": {}, "if": {}, "type": "unheard-of"}, [1, "x"], []),
    ],
)
def test_keywords(schema: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not one(schema, value)] == []
    assert [value for value in bad if one(schema, value)] == []


def test_unknown_keys_at_the_top() -> None:
    closed = {"type": "object", "properties": {"path": {"type": "string"}}}
    assert "pth: there is no such argument; did you mean path?" in complaint(closed, {"pth": "x"})
    assert fits({**closed, "additionalProperties": True}, {"pth": "x"})
    assert fits({**closed, "additionalProperties": {"type": "string"}}, {"pth": "x"})
    assert not fits({**closed, "additionalProperties": {"type": "string"}}, {"pth": 1})
    assert fits({"type": "object"}, {"anything": 1})
    assert fits({}, {"anything": 1})
    # names may come from elsewhere in the schema, so nothing can be said about them
    assert fits({**closed, "allOf": [{"properties": {"more": {}}}]}, {"more": 1})


def test_the_report() -> None:
    schema = {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"type": "object", "required": ["id"]}},
            "mode": {"enum": ["r", "w"]},
        },
        "required": ["mode"],
    }
    text = complaint(schema, {"items": [{"id": 1}, {}]})
    assert "mode: is required but missing" in text
    assert "items[1].id: is required but missing" in text
    assert "Valid names: items, mode (required)" in text
    assert 'mode: should be one of "r", "w"; got the string "x"' in complaint(schema, {"mode": "x"})
    assert "should be a JSON object" in complaint(schema, [])
    assert "(send the value itself" in complaint(schema, {"mode": "r", "items": "[]"})


def test_a_union_says_what_it_wants() -> None:
    schema = {"properties": {"v": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}
    assert 'v: should be an integer or null; got the string "x"' in complaint(schema, {"v": "x"})


def test_references() -> None:
    schema = {
        "properties": {"v": {"$ref": "#/$defs/Node"}},
        "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}, "n": {"type": "integer"}}}},
    }
    assert fits(schema, {"v": {"next": {"next": {"n": 1}}}})
    assert "v.next.next.n" in complaint(schema, {"v": {"next": {"next": {"n": "x"}}}})
    assert fits({"properties": {"v": {"$ref": "#/nowhere"}}}, {"v": 1})
    assert fits({"properties": {"v": {"$ref": "https://example.com/schema"}}}, {"v": 1})


def test_a_reference_to_itself_ends() -> None:
    schema = {"properties": {"v": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert "nested too deeply" in complaint(schema, {"v": 1})


def test_branching_references_end_in_time() -> None:
    twice = {"$ref": "#/$defs/A"}
    schema = {"properties": {"v": twice}, "$defs": {"A": {"allOf": [twice, twice]}}}
    begun = time.process_time()
    complaint(schema, {"v": 1})
    schema["$defs"] = {"A": {"anyOf": [twice, twice]}}
    complaint(schema, {"v": 1})
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "a*a*a*a*a*a*b", "(?=a)a", r"(a)\1", "[", "x" * 500]
)
def test_patterns_that_are_costly_or_foreign_are_ignored_and_fast(pattern: str) -> None:
    begun = time.process_time()
    assert one({"pattern": pattern}, "a" * 2000 + "!")
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": [], "required": "x", "additionalProperties": 3},
        {"properties": {"v": {"type": 3, "enum": "x", "minimum": "a", "anyOf": {}, "items": 3}}},
        {"properties": {"v": {"required": [3, None], "pattern": 7, "minLength": "1", "$ref": 4}}},
        {"type": None, "$defs": [], "allOf": [3]},
    ],
)
def test_malformed_schemas_do_no_harm(schema: dict[str, Any]) -> None:
    complaint(schema, {"v": {"a": 1}})
    complaint(schema, {"v": [1]})
    complaint(schema, {"v": "x"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
words = st.sampled_from(
    ["type", "enum", "const", "properties", "required", "items", "anyOf", "allOf", "$ref"]
)
odd_schemas = st.recursive(
    json_values, lambda inner: st.dictionaries(words, inner | st.lists(inner), max_size=4), max_leaves=8
)


@settings(max_examples=150, deadline=None)
@given(schema=st.dictionaries(words, odd_schemas, max_size=4), args=json_values)
def test_whatever_comes_the_answer_is_yes_or_a_bounded_report(schema: dict[str, Any], args: Any) -> None:
    assert len(complaint(schema, args)) < 5000
