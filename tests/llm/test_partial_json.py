"""An answer as it grows: what is shown is always the beginning of what it becomes, at a linear cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.safety import partial_json
from loom.safety.partial_json import MAX_DEPTH, PartialJSON

unhurried = settings(deadline=None)  # what is promised is counted below, not timed

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5)
)
DOCUMENTS = st.lists(VALUES, max_size=6) | st.dictionaries(st.text(), VALUES, max_size=6)
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"ensure_ascii": False},
    {"indent": 2},
    {"separators": (",", ":"), "ensure_ascii": False},
]


def begins(part: Any, whole: Any) -> bool:
    """Whether ``part`` is what ``whole`` looks like before all of it is there."""
    if isinstance(part, str):
        return isinstance(whole, str) and whole.startswith(part)
    if isinstance(part, list):
        if not isinstance(whole, list) or len(part) > len(whole):
            return False
        return part[:-1] == whole[: len(part) - 1 if part else 0] and (
            not part or begins(part[-1], whole[len(part) - 1])
        )
    if isinstance(part, dict):
        if not isinstance(whole, dict) or list(part) != list(whole)[: len(part)]:
            return False
        *before, last = part or [None]
        return not part or (
            all(part[key] == whole[key] for key in before) and begins(part[last], whole[last])
        )
    return type(part) is type(whole) and part == whole


def fed(text: str, size: int = 1, opening: str = "{[") -> PartialJSON:
    growing = PartialJSON(opening)
    for start in range(0, len(text), size):
        growing.feed(text[start : start + size])
    return growing


@unhurried
@given(DOCUMENTS, st.sampled_from(LAYOUTS), st.integers(1, 7))
def test_every_prefix_shows_the_beginning_of_the_whole(
    document: Any, layout: dict[str, Any], size: int
) -> None:
    text = json.dumps(document, **layout)
    growing, before = PartialJSON(), None
    for start in range(0, len(text), size):
        assert not growing.complete
        growing.feed(text[start : start + size])
        value = growing.value
        assert begins(value, document), (value, text[: start + size])
        assert before is None or begins(before, value)
        before = value
    assert growing.complete
    assert growing.value == document


@unhurried
@given(DOCUMENTS, st.integers(1, 40))
def test_what_was_shown_is_not_changed_by_what_comes(document: Any, size: int) -> None:
    text = json.dumps(document)
    growing = PartialJSON()
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    shown = [(growing.value, msgspec.json.encode(growing.value)) for piece in pieces if growing.feed(piece)]
    assert all(msgspec.json.encode(value) == then for value, then in shown)
    assert shown[-1][0] == document if shown else not document


@unhurried
@given(
    st.text() | DOCUMENTS.map(json.dumps), st.text(alphabet='{}[]",:\\u0aD8tfn1-.e \n\x00\ud800'), st.data()
)
def test_hostile_text_never_raises_and_keeps_what_was_certain(begun: str, rest: str, data: Any) -> None:
    cut = data.draw(st.integers(0, len(begun)))
    growing = PartialJSON()
    for piece in (begun[:cut], rest, begun[cut:]):
        growing.feed(piece)
        msgspec.json.encode(growing.value)  # plain, and encodable


@unhurried
@given(st.text(alphabet=' \n{}[]":,a0'))
def test_the_pieces_do_not_matter(text: str) -> None:
    whole = fed(text, max(len(text), 1))
    for size in (1, 2, 3):
        other = fed(text, size)
        assert (other.value, other.complete) == (whole.value, whole.complete)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("I think so.", None),
        ("{", {}),
        ('{"na', {}),
        ('{"name"', {}),
        ('{"name":', {}),
        ('{"name": "', {"name": ""}),
        ('{"name": "An', {"name": "An"}),
        ('{"name": "An\\', {"name": "An"}),
        ('{"name": "\\u00e', {"name": ""}),
        ('{"name": "\\ud83d', {"name": ""}),
        ('{"name": "\\ud83d\\ude0', {"name": ""}),
        ('{"name": "\\ud83d\\ude00', {"name": "\U0001f600"}),
        ('{"n": 12', {}),
        ('{"n": 12,', {"n": 12}),
        ('{"n": 12 ', {"n": 12}),
        ('{"n": -1.5e2}', {"n": -150.0}),
        ('{"n": tru', {}),
        ('{"n": true', {"n": True}),
        ('{"n": [1, {"m": nul', {"n": [1, {}]}),
        ("[[], [1", [[], []]),
        ('```json\n{"a": 1}\n```\nDone. {"b": 2}', {"a": 1}),
        ('Here [1] you {are}: {"a": 1}', {"a": 1}),
        ('{"a": 1, "a": [2', {"a": []}),
    ],
)
def test_what_is_certain(text: str, value: Any) -> None:
    assert fed(text, opening="{" if "you" in text else "{[").value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, b', {"a": 1}),
        ('{"a": 1]', {"a": 1}),
        ('{"a": 01, "b": 2}', {}),
        ('{"a": 1e999, "b": 2}', {}),
        ('{"a": NaN}', {}),
        ('{"a": "x\ny", "b": 1}', {"a": "x"}),
        ('{"a": "x\\q", "b": 1}', {"a": "x"}),
        ('{"a": "\\ud800x", "b": 1}', {"a": ""}),
        ('{"a": "\\udc00", "b": 1}', {"a": ""}),
        ('{"a": "\\ud800\\u0041", "b": 1}', {"a": ""}),
        ('{"a": "x\ud800", "b": 1}', {"a": "x"}),
        ('{"a": ' + "1" * 5000 + ', "b": 2}', {}),
        ("[1,]", [1]),
        ("[1, 2 3]", [1, 2]),
    ],
)
def test_text_that_is_no_json_ends_the_reading(text: str, value: Any) -> None:
    for size in (1, len(text)):
        growing = fed(text, size)
        assert (growing.value, growing.complete) == (value, False)
        assert growing.feed('{"more": 1}') is False


def test_depth_is_bounded() -> None:
    depth, value = 0, fed('{"a":' * 5000).value
    while value:
        depth, value = depth + 1, value["a"]
    assert depth + 1 == MAX_DEPTH


# --- cost ---------------------------------------------------------------------------------------------


def lines_run(work: Callable[[], object]) -> int:
    """Lines of the module that ``work`` runs: a count, where a clock would only be an opinion."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename == partial_json.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


SHAPES: dict[str, Callable[[int], str]] = {
    "string": lambda n: json.dumps({"text": "word " * n}),
    "items": lambda n: json.dumps(list(range(n))),
    "members": lambda n: json.dumps({str(i): i for i in range(n)}),
    "objects": lambda n: json.dumps([{"a": "b", "c": [i]} for i in range(n)]),
    "prose": lambda n: "[see {x}] " * n,
    "escapes": lambda n: json.dumps({"text": "\u00e9" * n}),
}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_work_is_linear(shape: str) -> None:
    make = SHAPES[shape]
    short, long = make(100), make(400)
    a_character = lines_run(lambda: fed(short)) / len(short)
    assert lines_run(lambda: fed(long)) / len(long) < a_character * 1.2


def items_in(value: Any) -> int:
    """What copying ``value`` may have cost: the items of containers, the characters of strings."""
    if isinstance(value, dict):
        return len(value) + sum(map(items_in, value.values()))
    if isinstance(value, list):
        return len(value) + sum(map(items_in, value))
    return len(value) if isinstance(value, str) else 1


@pytest.mark.parametrize("shape", ["string", "items", "members"])
def test_all_copies_together_are_linear(shape: str) -> None:
    text = SHAPES[shape](5000)
    growing, copied, shown = PartialJSON(), 0, 0
    for start in range(0, len(text), 4):
        if growing.feed(text[start : start + 4]):
            copied += items_in(growing.value)
            shown += 1
    assert growing.complete
    assert copied <= 70 * len(text)
    assert shown > 100, "and yet it is seen to grow"


def test_a_small_answer_is_shown_with_every_change() -> None:
    text = '{"title": "Cats", "tags": ["a", "b"]}'
    growing = PartialJSON()
    shown = [growing.value for character in text if growing.feed(character)]
    titles = ["", "C", "Ca", "Cat", "Cats"]
    tags: list[Any] = [[], [""], ["a"], ["a", ""], ["a", "b"]]
    assert shown == [{"title": t} for t in titles] + [{"title": "Cats", "tags": t} for t in tags]
