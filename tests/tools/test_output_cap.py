"""Large results: what is shown, what is handed on to be kept, and how the rest is read."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.errors import ToolArgumentsError, ToolError
from loom.store.memory import InMemorySessionStore
from loom.tools.base import ToolContext
from loom.tools.output import MAX_PAGE, OutputCap, ReadOutput, cut_position, read_page
from loom.types import ImagePart, TextPart, ToolResult

LINES = "".join(f"line {n} of the log\n" for n in range(5000))


class Shelf(dict[str, str]):
    """Where a test keeps what was cut, while there is room."""

    full = False

    async def keep(self, reference: str, text: str) -> bool:
        if not self.full:
            self[reference] = text
        return not self.full


async def cut(
    result: ToolResult, shelf: Shelf | None = None, call_id: str = "c", **options: Any
) -> ToolResult:
    return await OutputCap(**options).cut(result, call_id, (Shelf() if shelf is None else shelf).keep)


def reference(text: str | None) -> tuple[str, int]:
    found = re.search(r'read_output\(reference="(\w+)", offset=(\d+)\)', text or "")
    assert found, text
    return found[1], int(found[2])


async def test_what_fits_is_not_touched() -> None:
    result = ToolResult("x" * 20_000, data={"a": 1}, metadata={"b": 2})
    assert await cut(result) is result


def test_what_is_short_and_plain_fits_at_a_look() -> None:
    cap = OutputCap()
    assert cap.fits(ToolResult("x" * 20_000, metadata={"b": 2}, is_error=True))
    assert not cap.fits(ToolResult("x" * 20_001))
    assert not cap.fits(ToolResult("x", data={}))
    assert not cap.fits(ToolResult("x", content_parts=(TextPart("y"),)))


async def test_cut_on_a_line_within_the_limit_and_everything_else_kept() -> None:
    shelf = Shelf()
    capped = await cut(ToolResult(LINES, is_error=True, metadata={"m": 1}), shelf)
    assert len(capped.text) <= 20_000
    shown, _, notice = capped.text.rpartition("\n")
    assert LINES.startswith(shown + "\n")
    assert f"of {len(LINES)} characters" in notice
    assert (capped.is_error, capped.metadata) == (True, {"m": 1})
    assert shelf == {reference(capped.text)[0]: LINES}


async def test_head_and_pages_are_the_whole() -> None:
    shelf = Shelf()
    name, offset = reference((await cut(ToolResult(LINES), shelf)).text)
    whole = LINES[:offset]
    while True:
        page, _, footer = read_page(shelf[name], offset=offset).rpartition("\n")
        whole += page
        found = re.search(r"offset=(\d+)", footer)
        if not found:
            assert "the end" in footer
            break
        offset = int(found[1])
    assert whole == LINES


async def test_the_same_output_has_the_same_reference_and_another_call_another() -> None:
    first = reference((await cut(ToolResult(LINES))).text)
    assert first == reference((await cut(ToolResult(LINES))).text)
    one = reference((await cut(ToolResult(LINES))).text)[0]
    two = reference((await cut(ToolResult(LINES[::-1]))).text)[0]  # ids repeat with some models
    three = reference((await cut(ToolResult(LINES), call_id="d")).text)[0]
    assert len({one, two, three}) == 3


async def test_what_could_not_be_kept_has_no_reference() -> None:
    shelf = Shelf()
    shelf.full = True
    capped = await cut(ToolResult(LINES), shelf)
    assert len(capped.text) <= 20_000
    assert capped.text.startswith("line 0")
    assert "could not be kept" in capped.text
    assert "read_output" not in capped.text


@pytest.mark.parametrize("room", [50_000, 600, 1])
async def test_an_output_larger_than_the_room_says_what_was_lost(room: int) -> None:
    shelf = Shelf()
    capped = await cut(ToolResult("é" * 200_000), shelf, room=room)
    assert "Only the first" in capped.text
    (kept,) = shelf.values()
    assert len(kept.encode()) <= max(room, 100)
    lost = re.search(r"\[The last (\d+) characters were not kept\.\]$", kept)
    assert lost
    assert kept.count("é") + int(lost[1]) == 200_000


async def test_what_fills_the_room_is_kept_whole() -> None:
    shelf = Shelf()
    assert "Only" not in (await cut(ToolResult("é" * 25_000), shelf, room=50_000)).text
    assert list(shelf.values()) == ["é" * 25_000]


async def test_text_parts_share_the_limit_and_media_stay() -> None:
    shelf = Shelf()
    image = ImagePart("a.png")
    capped = await cut(ToolResult(content_parts=[TextPart(LINES), image, TextPart("tail")]), shelf)
    assert capped.content_parts is not None
    first, media, tail = capped.content_parts
    assert isinstance(first, TextPart)
    assert len(first.text) <= 20_000
    assert (media, tail) == (image, TextPart("tail"))
    assert shelf == {reference(first.text)[0]: LINES}


async def test_data_larger_than_the_limit_is_dropped_and_other_data_stays() -> None:
    assert (await cut(ToolResult("t", data=["x" * 30_000]))).data is None
    kept = ToolResult("t", data=["x" * 10])
    assert await cut(kept) is kept


async def test_data_that_no_log_can_hold_is_said_to_be_dropped() -> None:
    capped = await cut(ToolResult("t", data=object()))
    assert capped.data is None
    assert "not plain data" in capped.text


async def test_lone_surrogates_are_replaced() -> None:
    capped = await cut(ToolResult("a\udc80" * 3))
    assert capped.text.encode().decode() == "a\ufffd" * 3


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="500"):
        OutputCap(10)


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


class Scope:
    """As much of a run's scope as a context looks at."""

    def __init__(self) -> None:
        self.store = InMemorySessionStore()


NAME = "out_0123456789abcdef"


async def ask(args: dict[str, Any], text: str = LINES, *, session: str = "s") -> str:
    """What the tool answers in ``session`` when the session ``s`` keeps ``text``."""
    scope = Scope()
    await scope.store.keep_output("s", NAME, text)
    at = ToolContext[Any](
        session_id=session, run_id="r", call_id="c", tool_name="read_output", idempotency_key="k", scope=scope
    )
    return (await ReadOutput().invoke_in_context({"reference": NAME, **args}, at)).text


async def test_reading_a_page_and_filtering() -> None:
    assert (await ask({"limit": 200})).startswith("line 0 of")
    found = await ask({"pattern": "LINE 4999"})
    at = LINES.index("line 4999")
    assert found.splitlines()[0] == f"{at}: line 4999 of the log"
    assert "No line" in await ask({"pattern": "absent"})
    assert "No line" in await ask({"pattern": "(l|i)+$"})


async def test_many_matches_are_paged() -> None:
    seen, offset = 0, 0
    for _ in range(100):
        text = await ask({"pattern": "of the log", "offset": offset})
        assert len(text) <= MAX_PAGE
        seen += text.count("of the log") - text.count("pattern")
        more = re.search(r"Read on with offset=(\d+)", text)
        if not more:
            break
        offset = int(more[1])
        seen += 1  # the notice also says "pattern" once
    assert seen == 5000


async def test_one_endless_line() -> None:
    text = await ask({"pattern": "needle"}, "x" * 10**6 + "needle" + "y" * 10**6)
    assert "needle" in text
    assert len(text) < 1000


@pytest.mark.parametrize(
    "args",
    [
        {"reference": None},
        {"reference": 1},
        {"offset": -1},
        {"limit": 10**9},
        {"limit": True},
        {"pattern": ""},
        {"path": "/etc/passwd"},
    ],
)
async def test_wrong_arguments(args: dict[str, Any]) -> None:
    with pytest.raises(ToolArgumentsError):
        await ask(args)


@pytest.mark.parametrize("name", ["out_0", "../x", "", NAME + "0", NAME.upper(), "out_0123456789abcde\n"])
async def test_an_unknown_reference(name: str) -> None:
    with pytest.raises(ToolError, match="Call the tool again"):
        await ask({"reference": name})


async def test_an_offset_past_the_end() -> None:
    with pytest.raises(ToolError, match="past the end"):
        await ask({"offset": len(LINES)})


async def test_one_session_cannot_read_the_outputs_of_another() -> None:
    assert (await ask({})).startswith("line 0")
    for other in ("b", "s/x", ""):
        with pytest.raises(ToolError, match="no output"):
            await ask({}, session=other)


async def test_without_a_session_there_is_nothing_to_read() -> None:
    with pytest.raises(ToolError, match="session"):
        await ReadOutput().invoke({"reference": NAME})
    at = ToolContext[Any](
        session_id="s", run_id="r", call_id="c", tool_name="read_output", idempotency_key="k"
    )
    with pytest.raises(ToolError, match="no output"):
        await ReadOutput().invoke_in_context({"reference": NAME}, at)
