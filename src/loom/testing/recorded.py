"""The file of recorded model traffic: what a line holds, how it is written and read.

JSON Lines: a header with the version, then one exchange a line. Nothing that changes from run to run is in it
(no times, no ids of ours), and nothing that a scrubber takes for a secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..errors import ContextOverflowError, LoomError, ProviderError, RecordingDamaged, to_exception
from ..llm.base import (
    ContentDeltaEvent,
    ModelSettings,
    StopEvent,
    ThinkingDeltaEvent,
    ToolCallDeltaEvent,
    UsageEvent,
    secrets_of,
)
from ..llm.encoding import encode
from ..llm.redact import Scrubber
from ..llm.scrubbed import scrub_message
from ..types import Attempt, ChatMessage, ChatResponse, ErrorInfo, ToolSpec, jsonable

VERSION = 1
_KEY = "recorded"
# A shorter value of a variable may be a word, such as "none" or "test", and cutting words out changes replies.
_SHORTEST_VALUE = 8

Delta = ContentDeltaEvent | ThinkingDeltaEvent | ToolCallDeltaEvent | UsageEvent | StopEvent


class _Header(Struct):
    loom_recording: int


class RecordedError(Struct, omit_defaults=True):
    """How a request failed."""

    info: ErrorInfo
    provider_code: str | None = None
    request_id: str | None = None
    attempts: tuple[Attempt, ...] = ()

    def raised(self) -> LoomError:
        """The error as the provider raised it; one that was none of ours is a ProviderError."""
        error = to_exception(self.info)
        if isinstance(error, ProviderError | ContextOverflowError):
            error.status = self.info.status
        if isinstance(error, ProviderError):
            error.provider_code, error.request_id = self.provider_code, self.request_id
        if self.attempts:
            error.attempts = self.attempts
        return error


class Exchange(Struct, omit_defaults=True):
    """One request and what came of it: deltas if it was streamed, then a reply or an error.

    ``abandoned`` says that whoever asked went away before the end.
    """

    request: dict[str, Any]
    streamed: bool = False
    events: list[Delta] = []
    reply: ChatResponse | None = None
    error: RecordedError | None = None
    abandoned: bool = False


class Recording(NamedTuple):
    """What a file holds. ``cut`` says that its last line was not finished, as after a crash."""

    exchanges: list[Exchange]
    cut: bool


def make_scrubber(secrets: Iterable[str], environ: Mapping[str, str], provider: object = None) -> Scrubber:
    """A scrubber for these secrets, the provider's own, and the values of variables named ``..._API_KEY``."""
    ambient = [value.strip() for name, value in environ.items() if name.upper().endswith("_API_KEY")]
    keys = [value for value in ambient if len(value) >= _SHORTEST_VALUE]
    return Scrubber([*secrets, *keys, *secrets_of(provider)])


# --- writing ------------------------------------------------------------------------------------------


def begin(path: Path) -> None:
    """Start a recording at ``path``, for this user alone; what was there is gone. Raises OSError."""
    _write(path, encode(_Header(VERSION)), os.O_TRUNC)


def append(path: Path, exchange: Exchange, scrub: Scrubber) -> None:
    """Add ``exchange``, whose request is plain already, without its secrets. Raises OSError."""
    line = _plain(replace(exchange, request={}, events=[], reply=None), scrub)
    line["request"] = exchange.request
    if exchange.events:
        line["events"] = _plain(_scrubbed_deltas(exchange.events, scrub), scrub)
    if exchange.reply is not None:
        message = scrub_message(exchange.reply.message, scrub)
        attempts = timeless(exchange.reply.attempts)
        line["reply"] = _plain(replace(exchange.reply, message=message, attempts=attempts), scrub)
    _write(path, encode(line), os.O_APPEND)


def timeless(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """``attempts`` without how long they took."""
    return tuple(replace(attempt, duration=0.0) for attempt in attempts)


def _write(path: Path, line: bytes, how: int) -> None:
    # Opened for each line: a recording has nothing to close, and a crash leaves whole lines.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if how == os.O_TRUNC:
            os.fchmod(descriptor, 0o600)
        file.write(line + b"\n")


def plain_request(
    messages: Sequence[ChatMessage],
    tools: Sequence[ToolSpec] | None,
    model: str | None,
    settings: ModelSettings | None,
    scrub: Scrubber,
) -> dict[str, Any]:
    """A request as plain data without secrets: what the model would be told, and nothing else."""
    shown = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in tools or ()
    ]
    rest = _plain({"tools": shown, "model": model, "settings": settings}, scrub)
    return {"messages": [_plain_message(message, scrub) for message in messages], **rest}


def _plain_message(message: ChatMessage, scrub: Scrubber) -> Any:
    kept: tuple[Scrubber, Any] | None = vars(message).get(_KEY)
    if kept is None or kept[0] is not scrub:
        # A long run sends a message many times; it is looked through once.
        kept = vars(message)[_KEY] = (scrub, _plain(scrub_message(message, scrub), scrub))
    return kept[1]


def _plain(value: Any, scrub: Scrubber) -> Any:
    return msgspec.json.decode(encode(scrub.value(msgspec.to_builtins(value, enc_hook=jsonable))))


def _scrubbed_deltas(events: Sequence[Delta], scrub: Scrubber) -> list[Delta]:
    """The deltas cut as they were, without the secrets that lie in them or across them."""
    cleaned = list(events)
    channels: dict[object, list[int]] = {}
    for place, event in enumerate(events):
        if isinstance(event, ToolCallDeltaEvent):
            channels.setdefault(event.index, []).append(place)
        elif isinstance(event, ContentDeltaEvent | ThinkingDeltaEvent):
            channels.setdefault(type(event), []).append(place)
    for channel, places in channels.items():
        texts = [_text(events[place]) for place in places]
        pieces = scrub.pieces(texts)
        if isinstance(channel, int):
            # Arguments can hide a secret in escapes, where one cannot tell which piece had it.
            whole = scrub(scrub.json("".join(texts)))
            if whole != "".join(pieces):
                pieces = [whole, *("" for _ in pieces[1:])]
        for place, before, after in zip(places, texts, pieces, strict=True):
            if after != before:
                cleaned[place] = _with_text(events[place], after)
    return cleaned


def _text(event: Delta) -> str:
    if isinstance(event, ToolCallDeltaEvent):
        return event.arguments_delta or ""
    return event.delta if isinstance(event, ContentDeltaEvent | ThinkingDeltaEvent) else ""


def _with_text(event: Delta, text: str) -> Delta:
    if isinstance(event, ToolCallDeltaEvent):
        return replace(event, arguments_delta=text)
    return replace(event, delta=text)


# --- reading ------------------------------------------------------------------------------------------

_decode_header = msgspec.json.Decoder(_Header).decode
_decode_exchange = msgspec.json.Decoder(Exchange).decode


def read(path: Path) -> Recording:
    """The recording at ``path``. Raises OSError, and RecordingDamaged naming the line that is wrong.

    A last line that was never finished is what a crash leaves, and no damage: it is not there.
    """
    lines = path.read_bytes().split(b"\n")
    unfinished = lines.pop()
    try:
        header = _decode_header(lines[0] if lines else b"")
    except ValueError as error:
        raise RecordingDamaged(f"{path}, line 1: no recording of model traffic ({error})") from None
    if header.loom_recording != VERSION:
        raise RecordingDamaged(
            f"{path} is a recording of version {header.loom_recording}, and this Loom reads {VERSION}; record again"
        )
    exchanges: list[Exchange] = []
    for number, line in enumerate(lines[1:], 2):
        try:
            exchanges.append(_decode_exchange(line))
        except (ValueError, RecursionError) as error:
            raise RecordingDamaged(f"{path}, line {number}: {error}") from None
    return Recording(exchanges, bool(unfinished))
