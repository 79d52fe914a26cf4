"""Spoilt streams through the decoders: a correct turn or a typed error, nothing else, and never less than was said.

Here without a socket and with a few thousand streams; ``make fuzz`` does it over sockets with many more.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from clients import CLIENTS
from conversation import ADD, HELLO
from mutations import REPLIES, mutated, rechunked, valid_streams

from loom.errors import LoomError
from loom.kernel.reply import sound_reply
from loom.llm.sse import SSEReader
from loom.llm.wire import Outgoing
from loom.types import ChatResponse

WIRES = sorted(CLIENTS)
STREAMS = 1500


async def outgoing(wire: str) -> Outgoing:
    return await CLIENTS[wire]("http://localhost/v1")._request(HELLO, [ADD], "m", None, True)


def decoded(request: Outgoing, pieces: Iterable[bytes]) -> ChatResponse | LoomError:
    """What a stream comes to, as ``HTTPProvider.chat_stream`` reads it."""
    reader, decoder = SSEReader(), request.decoder()
    try:
        for piece in pieces:
            for name, data in reader.feed(piece):
                decoder.feed(name, data)
                if decoder.done:
                    return decoder.finish()
        for name, data in reader.close():
            decoder.feed(name, data)
        return decoder.finish()
    except LoomError as error:
        return error


@pytest.mark.parametrize("wire", WIRES)
async def test_spoilt_streams(wire: str) -> None:
    request = await outgoing(wire)
    replies = 0
    for seed in range(STREAMS):
        got = decoded(request, mutated(wire, seed))
        if isinstance(got, ChatResponse):
            replies += 1
            reply = sound_reply(got, 1)
            calls = reply.message.tool_calls or ()
            assert len({call.id for call in calls}) == len(calls), f"stream {seed}"
            assert all(call.id and call.name for call in calls), f"stream {seed}"
        else:
            assert str(got), f"stream {seed}"
    assert 0 < replies < STREAMS  # else the mutations spoil nothing, or everything


@pytest.mark.parametrize("wire", WIRES)
async def test_every_cut_of_a_stream_is_an_error_or_the_whole_turn(wire: str) -> None:
    """A cut may only lose what comes after the end of the turn, such as counts, never a part of the turn."""
    request = await outgoing(wire)
    for events in valid_streams(wire):
        body = b"".join(events)
        whole = decoded(request, [body])
        assert isinstance(whole, ChatResponse)
        step = max(1, len(body) // 150)
        for end in (*range(0, len(body), step), *range(max(0, len(body) - 150), len(body))):
            got = decoded(request, [body[:end]])
            if isinstance(got, ChatResponse):
                assert got.message == whole.message, end
                assert got.stop_reason is whole.stop_reason, end


@pytest.mark.parametrize("wire", WIRES)
async def test_pieces_change_nothing(wire: str) -> None:
    request = await outgoing(wire)
    for number, events in enumerate(valid_streams(wire)):
        body = b"".join(events)
        whole = decoded(request, [body])
        for seed in range(20):
            assert decoded(request, rechunked(random.Random(f"{number}:{seed}"), body)) == whole


def test_there_are_enough_streams_to_spoil() -> None:
    assert len(REPLIES) * 2 * len(WIRES) >= 40
