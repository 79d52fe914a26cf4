"""Large results: what is shown, what is kept, and how the rest is read."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.errors import ToolArgumentsError, ToolError
from loom.tools.base import ToolContext
from loom.tools.output import MAX_PAGE, OutputStore, ReadOutput, cut_position
from loom.types import ImagePart, TextPart, ToolResult

LINES = "".join(f"line {n} of the log\n" for n in range(5000))


def reference(text: str | None) -> tuple[str, int]:
    found = re.search(r'read_output\(reference="(\w+)", offset=(\d+)\)', text or "")
    assert found, text
    return found[1], int(found[2])


def test_what_fits_is_not_touched() -> None:
    result = ToolResult("x" * 20_000, data={"a": 1}, metadata={"b": 2})
    assert OutputStore().cap(result, call_id="c") is result


def test_cut_on_a_line_within_the_limit_and_everything_else_kept() -> None:
    capped = OutputStore().cap(ToolResult(LINES, is_error=True, metadata={"m": 1}), call_id="c")
    assert len(capped.text) <= 20_000
    shown, _, notice = capped.text.rpartition("\n")
    assert LINES.startswith(shown + "\n")
    assert f"of {len(LINES)} characters" in notice
    assert (capped.is_error, capped.metadata) == (True, {"m": 1})


def test_head_and_pages_are_the_whole() -> None:
    store = OutputStore()
    capped = store.cap(ToolResult(LINES), call_id="c")
    name, offset = reference(capped.text)
    whole = LINES[:offset]
    while True:
        page, _, footer = store.read(name, offset=offset).rpartition("\n")
        whole += page
        found = re.search(r"offset=(\d+)", footer)
        if not found:
            assert "the end" in footer
            break
        offset = int(found[1])
    assert whole == LINES


def test_the_same_output_has_the_same_reference_and_another_call_another() -> None:
    first = reference(OutputStore().cap(ToolResult(LINES), call_id="c").text)
    assert first == reference(OutputStore().cap(ToolResult(LINES), call_id="c").text)
    store = OutputStore()
    one = reference(store.cap(ToolResult(LINES), call_id="c").text)[0]
    two = reference(store.cap(ToolResult(LINES[::-1]), call_id="c").text)[0]  # ids repeat with some models
    assert one != two
    assert store.read(one, offset=0, limit=200).startswith("line 0")


def test_memory_is_bounded_and_the_least_recently_used_goes() -> None:
    text = "x" * 30_000
    store = OutputStore(max_bytes=3 * sys.getsizeof(text))
    names = [reference(store.cap(ToolResult(text), call_id=str(n)).text)[0] for n in range(3)]
    store.read(names[0])
    store.cap(ToolResult(text), call_id="3")
    store.read(names[0])
    with pytest.raises(ToolError, match="Call the tool again"):
        store.read(names[1])


def test_an_output_larger_than_the_whole_memory_says_what_was_lost() -> None:
    store = OutputStore(max_bytes=50_000)
    capped = store.cap(ToolResult("é" * 200_000), call_id="c")
    assert "Only the first" in capped.text
    name, offset = reference(capped.text)
    text = store.read(name, offset=offset, limit=10**6)
    assert re.search(r"The last \d+ characters were not kept", text)


def test_text_parts_share_the_limit_and_media_stay() -> None:
    store = OutputStore()
    image = ImagePart("a.png")
    capped = store.cap(ToolResult(content_parts=[TextPart(LINES), image, TextPart("tail")]), call_id="c")
    assert capped.content_parts is not None
    first, media, tail = capped.content_parts
    assert isinstance(first, TextPart)
    assert len(first.text) <= 20_000
    assert (media, tail) == (image, TextPart("tail"))
    assert store.read(reference(first.text)[0]).startswith("line 0")


def test_data_larger_than_the_limit_is_dropped_and_other_data_stays() -> None:
    store = OutputStore()
    assert store.cap(ToolResult("t", data=["x" * 30_000]), call_id="c").data is None
    kept = ToolResult("t", data=["x" * 10])
    assert store.cap(kept, call_id="c") is kept


def test_data_that_no_log_can_hold_is_said_to_be_dropped() -> None:
    capped = OutputStore().cap(ToolResult("t", data=object()), call_id="c")
    assert capped.data is None
    assert "not plain data" in capped.text


def test_lone_surrogates_are_replaced() -> None:
    capped = OutputStore().cap(ToolResult("a\udc80" * 3), call_id="c")
    assert capped.text.encode().decode() == "a\ufffd" * 3


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="500"):
        OutputStore().cap(ToolResult(""), limit_chars=10, call_id="c")
    with pytest.raises(ValueError, match="max_bytes"):
        OutputStore(max_bytes=0)


@pytest.mark.parametrize("cluster", ["e\u0301\u0302", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "\r\n", "☺\ufe0f"])
def test_clusters_are_not_split(cluster: str) -> None:
    text = "ab" + cluster + "cd"
    for size in range(3, 2 + len(cluster)):
        assert cut_position(text, 0, size) == 2


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab\n\r\u0301\u200d👍🇩", max_size=120), size=st.integers(1, 40))
def test_cutting_always_moves_on_and_loses_nothing(text: str, size: int) -> None:
    pieces, start = [], 0
    while start < len(text):
        end = cut_position(text, start, size)
        assert start < end <= start + size or end == len(text)
        pieces.append(text[start:end])
        start = end
    assert "".join(pieces) == text


# --- the tool ---------------------------------------------------------------------------------------


def kept() -> tuple[ReadOutput, str]:
    store = OutputStore()
    return ReadOutput(store), reference(store.cap(ToolResult(LINES), call_id="c").text)[0]


async def test_reading_a_page_and_filtering() -> None:
    tool, name = kept()
    assert (await tool.invoke({"reference": name, "limit": 200})).text.startswith("line 0 of")
    found = (await tool.invoke({"reference": name, "pattern": "LINE 4999"})).text
    at = LINES.index("line 4999")
    assert found.splitlines()[0] == f"{at}: line 4999 of the log"
    assert "No line" in (await tool.invoke({"reference": name, "pattern": "absent"})).text
    assert "No line" in (await tool.invoke({"reference": name, "pattern": "(l|i)+$"})).text


async def test_many_matches_are_paged() -> None:
    tool, name = kept()
    seen, offset = 0, 0
    for _ in range(100):
        text = (await tool.invoke({"reference": name, "pattern": "of the log", "offset": offset})).text
        assert len(text) <= MAX_PAGE
        seen += text.count("of the log") - text.count("pattern")
        more = re.search(r"Read on with offset=(\d+)", text)
        if not more:
            break
        offset = int(more[1])
        seen += 1  # the notice also says "pattern" once
    assert seen == 5000


async def test_one_endless_line() -> None:
    store = OutputStore()
    name = reference(store.cap(ToolResult("x" * 10**6 + "needle" + "y" * 10**6), call_id="c").text)[0]
    text = store.read(name, pattern="needle")
    assert "needle" in text
    assert len(text) < 1000


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"reference": 1},
        {"reference": "r", "offset": -1},
        {"reference": "r", "limit": 10**9},
        {"reference": "r", "limit": True},
        {"reference": "r", "pattern": ""},
        {"reference": "r", "path": "/etc/passwd"},
    ],
)
async def test_wrong_arguments(args: dict[str, Any]) -> None:
    with pytest.raises(ToolArgumentsError):
        await kept()[0].invoke(args)


async def test_unknown_reference_and_offset_past_the_end() -> None:
    tool, name = kept()
    with pytest.raises(ToolError, match="Call the tool again"):
        await tool.invoke({"reference": "out_0"})
    with pytest.raises(ToolError, match="past the end"):
        await tool.invoke({"reference": name, "offset": len(LINES)})


def test_one_session_cannot_read_the_outputs_of_another() -> None:
    stores = {"a": OutputStore(), "b": OutputStore()}
    name = reference(stores["a"].cap(ToolResult(LINES), call_id="c").text)[0]
    tool = ReadOutput(stores.get)

    def read_as(session: str) -> ToolResult:
        at = ToolContext[Any](
            session_id=session, run_id="r", call_id="c", tool_name="read_output", idempotency_key="k"
        )
        return asyncio.run(tool.invoke_in_context({"reference": name}, at))

    assert read_as("a").text.startswith("line 0")
    for other in ("b", "unheard-of"):
        with pytest.raises(ToolError, match="no output"):
            read_as(other)
