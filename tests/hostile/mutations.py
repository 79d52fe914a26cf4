"""Valid streams, and ways to spoil them that a seed names exactly."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

from conversation import BY_NAME

from loom.testing.scripted import say
from loom.types import ChatResponse, StopReason, ToolCall, Usage

LONG = "Das ist ein längerer Text mit Zeichen aus aller Welt: 日本語, русский, العربية, 🌍🚀. " * 5
REPLIES: tuple[ChatResponse, ...] = (
    say("Hi."),
    say(LONG, usage=Usage(100, 80, 40)),
    say("", ToolCall("call_1", "add", '{"a":1,"b":2}')),
    say("Both.", ToolCall("call_1", "add", '{"a":1,"b":2}'), ToolCall("call_2", "add", '{"a":30,"b":-4}')),
    say("Hm.", ToolCall("call_1", "add", "{}"), thinking="Let me think. 世界", signature="c2lnbmF0dXJl"),
    say("No.", stop_reason=StopReason.REFUSAL),
    say("And so on", stop_reason=StopReason.LENGTH),
    say(LONG, thinking=LONG, signature="c2lnbmF0dXJl" * 20, usage=Usage(9, 9)),
    say("", *(ToolCall(f"call_{n}", "add", f'{{"a":{n},"b":"\\"{{}}"}}') for n in range(5))),
    say('{"answer": [1, 2, {"x": "}\\n\\n"}]}'),
)


@cache
def valid_streams(wire: str) -> list[list[bytes]]:
    """Every reply, in small and large pieces, as the events of this wire."""
    spoken = BY_NAME[wire]
    return [list(spoken.stream(reply, 1, size)) for reply in REPLIES for size in (3, None)]


Mutation = Callable[[random.Random, list[bytes], list[bytes]], list[bytes]]


def _flip(dice: random.Random, events: list[bytes], other: list[bytes]) -> list[bytes]:
    body = bytearray(b"".join(events))
    for _ in range(dice.randint(1, 8)):
        body[dice.randrange(len(body))] = dice.randrange(256)
    return [bytes(body)]


def _flip_visible(dice: random.Random, events: list[bytes], other: list[bytes]) -> list[bytes]:
    """Flips among the bytes of JSON, so that more of what comes out still parses."""
    body = bytearray(b"".join(events))
    for _ in range(dice.randint(1, 4)):
        body[dice.randrange(len(body))] = dice.choice(b'0123456789abcxyz{}[]",:\\ \n-.enult')
    return [bytes(body)]


def _drop(dice: random.Random, events: list[bytes], other: list[bytes]) -> list[bytes]:
    kept = [event for event in events if dice.random() > 0.15]
    return kept or events[:1]


def _double(dice: random.Random, events: list[bytes], other: list[bytes]) -> list[bytes]:
    return [copy for event in events for copy in [event] * (2 if dice.random() < 0.15 else 1)]


def _swap(dice: random.Random, events: list[bytes], other: list[bytes]) -> list[bytes]:
    mixed = list(events)
    for _ in range(dice.randint(1, 4)):
        one, two = dice.randrange(len(mixed)), dice.randrange(len(mixed))
        mixed[one], mixed[two] = mixed[two], mixed[one]
    return mixed


def _splice(dice: random.Random, events: list[bytes], other: list[bytes]) -> list[bytes]:
    return events[: dice.randrange(len(events) + 1)] + other[dice.randrange(len(other)) :]


def _value(dice: random.Random, events: list[bytes], other: list[bytes]) -> list[bytes]:
    """One value of one event becomes something of another kind."""
    which = dice.randrange(len(events))
    parts = events[which].split(b":")
    at = dice.randrange(len(parts))
    strange = dice.choice(
        [b"null", b"[]", b"{}", b"-1", b"1e999", b'""', b'"\\ud800"', b"true", b"[[[[", b'"x']
    )
    parts[at] = strange + parts[at][parts[at].find(b",") :] if b"," in parts[at] else strange
    return [*events[:which], b":".join(parts), *events[which + 1 :]]


def _cut_and_go_on(dice: random.Random, events: list[bytes], other: list[bytes]) -> list[bytes]:
    body = b"".join(events)
    start = dice.randrange(len(body))
    return [body[:start], body[start + dice.randint(1, 40) :]]


MUTATIONS: tuple[Mutation, ...] = (
    _flip, _flip_visible, _drop, _double, _swap, _splice, _value, _cut_and_go_on,
)  # fmt: skip


def mutated(wire: str, seed: int) -> list[bytes]:
    """Stream number ``seed`` of this wire, in pieces of 1 to 7 bytes for every other one."""
    dice = random.Random(f"{wire}:{seed}")
    streams = valid_streams(wire)
    events = list(dice.choice(streams))
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        events = dice.choice(MUTATIONS)(dice, events, dice.choice(streams)) or [b""]
    return rechunked(dice, b"".join(events)) if seed % 2 else events


def rechunked(dice: random.Random, body: bytes) -> list[bytes]:
    """``body`` in pieces of 1 to 7 bytes."""
    pieces: list[bytes] = []
    at = 0
    while at < len(body):
        size = dice.randint(1, 7)
        pieces.append(body[at : at + size])
        at += size
    return pieces
