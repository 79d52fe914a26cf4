"""A valid reply, sent the way no careful server would: it arrives whole, or as one typed error, on every wire."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from clients import CLIENTS, outcome
from conversation import BY_NAME, CALLS, TEXT, same, stream, whole
from raw_server import Reply, http, raw_server

from loom.errors import (
    ContextOverflowError,
    LoomError,
    MalformedReplyError,
    ProviderError,
    ProviderUnavailableError,
)
from loom.types import ChatResponse

WIRES = sorted(CLIENTS)
Spoil = Callable[[list[bytes]], Reply]


def joined(events: Sequence[bytes]) -> bytes:
    return b"".join(events)


def each(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda events: http([change(event) for event in events])


def bytewise(events: list[bytes]) -> Reply:
    return http([bytes([byte]) for byte in joined(events)])


def commented(events: list[bytes]) -> Reply:
    return http(joined([b": keep-alive\n\n" + event for event in events]) + b":\n\n")


def pretty(event: bytes) -> bytes:
    """The data over several lines, where JSON may have white space."""
    return event.replace(b'{"', b'{\ndata: "', 1)


def chunked(events: list[bytes], spoil: bytes = b"") -> Reply:
    body = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)
    return http(body + spoil + b"0\r\n\r\n", headers=["Transfer-Encoding: chunked"])


def compressed(events: list[bytes], name: str, pack: Callable[[bytes], bytes]) -> Reply:
    return http(pack(joined(events)), headers=[f"Content-Encoding: {name}"])


HARMLESS: dict[str, Spoil] = {
    "as it should be": lambda events: http(joined(events)),
    "an event a write": http,
    "a byte a write": bytewise,
    "data: without a space": each(lambda event: event.replace(b"data: ", b"data:")),
    "lines end with CRLF": each(lambda event: event.replace(b"\n", b"\r\n")),
    "lines end with CR": each(lambda event: event.replace(b"\n", b"\r")),
    "a byte order mark": lambda events: http(b"\xef\xbb\xbf" + joined(events)),
    "comments between events": commented,
    "ids, retries and unknown fields": each(lambda event: b"id: 7\nretry: 10\nx-unknown: y\n" + event),
    "empty data between events": each(lambda event: b"data:\n\ndata: \n\n" + event),
    "blank lines between events": each(lambda event: b"\n\n\n" + event + b"\n"),
    "data over several lines": each(pretty),
    "no blank line at the end": lambda events: http(joined(events).rstrip(b"\n")),
    "the wrong content type": lambda events: http(joined(events), kind="text/plain"),
    "a content type with parameters": lambda events: http(
        joined(events), kind="text/event-stream;charset=utf-8"
    ),
    "chunked": chunked,
    "gzip": lambda events: compressed(events, "gzip", gzip.compress),
    "deflate": lambda events: compressed(events, "deflate", zlib.compress),
    "an encoding nobody knows": lambda events: http(joined(events), headers=["Content-Encoding: zzz"]),
    "an early hint before": lambda events: Reply(
        [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", *http(joined(events)).pieces]
    ),
    "many headers": lambda events: http(joined(events), headers=[f"X-{n}: y" for n in range(90)]),
    "a reset after the end": lambda events: http(joined(events), ends="reset"),
    "an open connection after the end": lambda events: http(joined(events), ends="stall"),
}

HARMFUL: dict[str, tuple[Spoil, type[LoomError]]] = {
    "a request a proxy finds too large": (
        lambda events: http(b"<html></html>", status="413 Content Too Large", kind="text/html"),
        ContextOverflowError,
    ),
    "nothing at all": (lambda events: Reply([]), ProviderUnavailableError),
    "an empty body": (lambda events: http(b""), MalformedReplyError),
    "no content": (lambda events: http(b"", status="204 No Content"), ProviderError),
    "not HTTP": (lambda events: Reply([b"SSH-2.0-OpenSSH_9.6\r\n"]), ProviderUnavailableError),
    "half a status line": (lambda events: Reply([b"HTTP/1.1 2"]), ProviderUnavailableError),
    "headers without end": (
        lambda events: Reply([b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000]),
        ProviderUnavailableError,
    ),
    "only comments": (lambda events: http(b": ping\n\n" * 1000), MalformedReplyError),
    "only the first event": (lambda events: http(events[0]), MalformedReplyError),
    "cut after half the events": (lambda events: http(events[: len(events) // 2]), MalformedReplyError),
    "cut in the middle of an event": (
        lambda events: http(joined(events)[: len(joined(events)) // 2]),
        MalformedReplyError,
    ),
    "reset after half the events": (
        lambda events: http(events[: len(events) // 2], ends="reset"),
        ProviderError,
    ),
    "reset at once": (lambda events: Reply([], "reset"), ProviderUnavailableError),
    "less than it announced": (
        lambda events: http(events[:2], headers=["Content-Length: 99999"]),
        ProviderUnavailableError,
    ),
    "a chunk that is none": (
        lambda events: chunked(events[:2], b"zz\r\nspoilt\r\n"),
        ProviderUnavailableError,
    ),
    "gzip that is none": (
        lambda events: http(joined(events), headers=["Content-Encoding: gzip"]),
        ProviderUnavailableError,
    ),
    "gzip that is cut": (
        lambda events: compressed(events, "gzip", lambda data: gzip.compress(data)[:-40]),
        ProviderError,
    ),
    "a web page": (
        lambda events: http(b"<!DOCTYPE html><html><title>Log in</title></html>", kind="text/html"),
        MalformedReplyError,
    ),
    "a web page that says it is a stream": (
        lambda events: http(b"<!DOCTYPE html><html><title>Log in</title></html>"),
        MalformedReplyError,
    ),
    "NUL bytes": (lambda events: http(b"\0" * 5000), MalformedReplyError),
    "a program": (lambda events: http(b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 8), MalformedReplyError),
    "a JSON document that is no reply": (
        lambda events: http(b'{"hello": "world"}', kind="application/json"),
        MalformedReplyError,
    ),
    "JSON null": (lambda events: http(b"null", kind="application/json"), MalformedReplyError),
    "JSON that is cut": (lambda events: http(b'{"id": "x", "', kind="application/json"), MalformedReplyError),
    "a number": (lambda events: http(b"data: 42\n\n"), MalformedReplyError),
    "a list": (lambda events: http(b"data: []\n\n"), MalformedReplyError),
    "an event nested without end": (
        lambda events: http(b"data: " + b"[" * 200_000 + b"\n\n"),
        MalformedReplyError,
    ),
    "an object nested without end": (
        lambda events: http(b"data: " + b'{"a":' * 100_000 + b"\n\n"),
        MalformedReplyError,
    ),
    "an event larger than can be": (
        lambda events: http([b"data: ", *[b"x" * 1_000_000] * 20]),
        MalformedReplyError,
    ),
    "bytes that are no text": (
        lambda events: http(joined(events).replace("ü".encode(), b"\xfc\xff")),
        MalformedReplyError,
    ),
    "an error with status 200": (
        lambda events: http(b'{"error": {"message": "over quota", "type": "x"}}', kind="application/json"),
        ProviderError,
    ),
    "an error in the stream": (
        lambda events: http(
            events[0] + b'event: error\ndata: {"type": "error", "error": {"message": "gone"}}\n\n'
        ),
        ProviderError,
    ),
    "an error named only by its event": (
        lambda events: http(b"event: error\ndata: upstream connect error\n\n"),
        ProviderError,
    ),
    **{
        f"a redirect with {status}": (
            lambda events, status=status: http(
                b"", status=f"{status} Moved", headers=["Location: http://127.0.0.2:9/elsewhere"]
            ),
            ProviderError,
        )
        for status in (301, 302, 303, 307, 308)
    },
    **{
        f"status {status} with a web page": (
            lambda events, status=status: http(
                b"<html><title>Bad gateway</title></html>", status=f"{status} X", kind="text/html"
            ),
            ProviderError,
        )
        for status in (400, 401, 403, 404, 418, 429, 500, 502, 503, 504, 520, 529)
    },
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("reply", [TEXT, CALLS], ids=["text", "calls"])
@pytest.mark.parametrize("spoil", HARMLESS.values(), ids=HARMLESS)
async def test_a_valid_stream_arrives_however_it_is_sent(
    spoil: Spoil, reply: ChatResponse, wire: str
) -> None:
    events = stream(BY_NAME[wire], reply)
    async with raw_server(lambda _: spoil(events)) as server, CLIENTS[wire](server.url) as provider:
        got = await outcome(provider, streamed=True)
    assert isinstance(got, ChatResponse), got
    assert same(got, reply)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("spoilt", HARMFUL.values(), ids=HARMFUL)
async def test_a_stream_that_is_spoilt_is_one_typed_error(
    spoilt: tuple[Spoil, type[LoomError]], wire: str
) -> None:
    spoil, expected = spoilt
    events = stream(BY_NAME[wire])
    async with raw_server(lambda _: spoil(events)) as server, CLIENTS[wire](server.url) as provider:
        got = await outcome(provider, streamed=True)
    assert isinstance(got, expected), got


WHOLE: dict[str, tuple[Callable[[bytes], Reply], Any]] = {
    "as it should be": (lambda body: http(body, kind="application/json"), None),
    "white space around": (lambda body: http(b"\n  " + body + b"\r\n ", kind="application/json"), None),
    "gzip": (
        lambda body: http(gzip.compress(body), kind="application/json", headers=["Content-Encoding: gzip"]),
        None,
    ),
    "a byte a write": (lambda body: http([bytes([b]) for b in body], kind="application/json"), None),
    "the wrong content type": (lambda body: http(body, kind="text/plain"), None),
    "cut": (lambda body: http(body[:-10], kind="application/json"), MalformedReplyError),
    "twice": (lambda body: http(body + body, kind="application/json"), MalformedReplyError),
    "empty": (lambda body: http(b"", kind="application/json"), MalformedReplyError),
    "less than announced": (
        lambda body: http(body, kind="application/json", headers=["Content-Length: 99999"]),
        ProviderUnavailableError,
    ),
    "nested without end": (
        lambda body: http(b"[" * 500_000, kind="application/json"),
        MalformedReplyError,
    ),
    "not text": (lambda body: http(b"\xff\xfe\x00{" + body, kind="application/json"), MalformedReplyError),
    "a web page": (lambda body: http(b"<html></html>", kind="text/html"), MalformedReplyError),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", WHOLE.values(), ids=WHOLE)
async def test_a_reply_in_one_piece(case: tuple[Callable[[bytes], Reply], Any], wire: str) -> None:
    spoil, expected = case
    body = whole(BY_NAME[wire], CALLS)
    async with raw_server(lambda _: spoil(body)) as server, CLIENTS[wire](server.url) as provider:
        got = await outcome(provider, streamed=False)
    if expected is None:
        assert isinstance(got, ChatResponse), got
        assert same(got, CALLS)
    else:
        assert isinstance(got, expected), got


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_compressed_flood_is_dropped_at_the_bound(wire: str, streamed: bool) -> None:
    """200 MB of zeros in 200 KB: reading stops at the bound, long before they are unpacked."""
    bomb = gzip.compress(b"\0" * 200_000_000, 1)
    flood = http(
        bomb, kind="text/event-stream" if streamed else "application/json", headers=["Content-Encoding: gzip"]
    )
    async with raw_server(lambda _: flood) as server, CLIENTS[wire](server.url) as provider:
        got = await outcome(provider, streamed=streamed)
    assert isinstance(got, MalformedReplyError), got
    assert "bytes" in str(got)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("at", [0, 1, 3])
async def test_a_stream_that_stalls_ends_after_the_longest_silence(wire: str, at: int) -> None:
    events = stream(BY_NAME[wire])
    stalled = http(events[:at], ends="stall")
    async with raw_server(lambda _: stalled) as server, CLIENTS[wire](server.url, timeout=0.15) as provider:
        got = await outcome(provider, streamed=True)
    assert isinstance(got, ProviderUnavailableError), got
    assert "in time" in str(got)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_redirect_never_takes_the_key_along(wire: str) -> None:
    async with raw_server(lambda _: http(b"")) as thief:
        moved = http(b"", status="307 Moved", headers=[f"Location: {thief.url}/chat/completions"])
        async with (
            raw_server(lambda _: moved) as server,
            CLIENTS[wire](server.url, max_retries=3) as provider,
        ):
            got = await outcome(provider, streamed=True)
            assert isinstance(got, ProviderError)
            assert len(server.requests) == 1
        assert thief.requests == []
