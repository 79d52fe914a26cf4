"""Bytes to events: the same events whatever the line ends are and wherever the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom.errors import MalformedReplyError
from loom.llm.sse import SSEReader

STREAM = (
    ": comment\n\n"
    'data: {"a": "wörld 🌍"}\n\n'
    "data:no space\n\n"
    "data:  two spaces\n\n"
    "event: named\ndata: one\ndata: two\nid: 7\nretry: 10\n\n"
    "event: nothing\n\n"
    "\n\n\n"
    "data\n\n"
    ": c\ndata: after comment\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = [
    (b"", '{"a": "wörld 🌍"}'.encode()),
    (b"", b"no space"),
    (b"", b" two spaces"),
    (b"named", b"one\ntwo"),
    (b"", b""),
    (b"", b"after comment"),
    (b"", b"[DONE]"),
]


def read(stream: bytes, cuts: list[int]) -> list[tuple[bytes, bytes]]:
    reader, events, start = SSEReader(), [], 0
    for cut in [*cuts, len(stream)]:
        events += reader.feed(stream[start:cut])
        start = cut
    return events + reader.close()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 10_000])
def test_every_line_end_and_every_cut_give_the_same_events(end: bytes, bom: bytes, size: int) -> None:
    stream = bom + STREAM.replace(b"\n", end)
    assert read(stream, list(range(size, len(stream), size))) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_random_cuts_give_the_same_events(cuts: list[int], end: bytes) -> None:
    stream = STREAM.replace(b"\n", end)
    assert read(stream, sorted(cuts)) == EVENTS


def test_an_event_is_handed_over_as_soon_as_its_blank_line_is_there() -> None:
    reader = SSEReader()
    assert reader.feed(b"data: a\r\n") == []
    assert reader.feed(b"\r") == [(b"", b"a")]
    assert reader.feed(b"\ndata: b\r\n\r\n") == [(b"", b"b")]


def test_a_stream_that_ends_without_blank_line_gives_its_last_event_at_the_close() -> None:
    reader = SSEReader()
    assert reader.feed(b"data: a\n\ndata: b\n") == [(b"", b"a")]
    assert reader.close() == [(b"", b"b")]
    assert reader.close() == []


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: " + b"y" * 200])
def test_an_event_without_end_is_refused_and_not_kept(piece: bytes) -> None:
    reader = SSEReader(max_event_bytes=150)
    with pytest.raises(MalformedReplyError, match="more than 150 bytes"):
        _ = [reader.feed(piece) for _ in range(3)]
    assert reader.feed(b"data: next\n\n") == [(b"", b"next")]


def test_a_big_event_in_small_pieces_costs_linear_time() -> None:
    # 4 MiB in 4 KiB pieces: quadratic copying would move 2 GiB and run into the suite's time limit.
    reader = SSEReader()
    assert reader.feed(b"data: ") == []
    for _ in range(1024):
        assert reader.feed(b"z" * 4096) == []
    (event,) = reader.feed(b"\n\n")
    assert len(event[1]) == 4 * 1024 * 1024


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("error", [b'{\n  "error": {\n    "code": 503\n  }\n}', b'[{"error": 1}]'])
def test_json_between_the_events_is_an_error_and_not_a_comment(end: bytes, size: int, error: bytes) -> None:
    stream = b"data: a\n\n" + error + b"\n\ndata: b\n\n" + error + b"\n"
    cuts = list(range(size, 2 * len(stream), size))
    events = read(stream.replace(b"\n", end), cuts)
    assert events == [(b"", b"a"), (b"error", error), (b"", b"b"), (b"error", error)]


@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
def test_review_l_a_byte_order_mark_is_no_part_of_the_first_event(size: int) -> None:
    for stream in (b"\xef\xbb\xbfdata: a\n\n", b"\xef\xbb\xbfevent: e\ndata: a\n\n"):
        events = read(stream, list(range(size, len(stream), size)))
        assert [data for _, data in events] == [b"a"]


def test_review_l_only_the_first_bytes_of_a_stream_are_a_byte_order_mark() -> None:
    assert read(b"data: a\n\n\xef\xbb\xbfdata: b\n\n", []) == [(b"", b"a")]
    assert read(b"data: \xef\xbb\xbf\n\n", [6]) == [(b"", b"\xef\xbb\xbf")]
