"""Replaying: a provider that answers from a recording, and says where a run leaves it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import ReplayDiverged
from ..llm.base import LLMProvider, ModelSettings, ProviderEvent, ReplyBuilder
from ..llm.redact import Scrubber
from ..llm.untyped import is_dict, is_list
from ..types import ChatMessage, ChatResponse, ToolSpec
from .recorded import Exchange, Recording, make_scrubber, plain_request, read
from .scripted import deltas

_GIVEN = "[REDACTED]"
_SHOWN = 80


def replay(
    path: str | os.PathLike[str],
    *,
    secrets: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> ReplayProvider:
    """A provider that answers as the one behind the recording at ``path`` did, without a network.

    A request is answered by the first exchange, of those not used yet, with the same messages, tools, model and
    settings; so runs that were recorded side by side may come in another order. A request that is none of them
    raises ReplayDiverged, which names the request and the first field that differs. Both sides are compared
    without their secrets (``secrets`` and ``environ`` as in ``record``), and anything may stand where the
    recording has ``[REDACTED]``.

    What was streamed can be asked for whole and the other way round. Raises OSError, and RecordingDamaged for a
    file that cannot be read.
    """
    return ReplayProvider(Path(path), read(Path(path)), make_scrubber(secrets, environ))


class ReplayProvider(LLMProvider):
    """What ``replay`` returns. As ``async with`` it raises at the end what ``assert_finished`` would.

    ``requests`` counts what was asked, ``remaining`` what was recorded and not asked for yet.
    """

    def __init__(self, path: Path, recording: Recording, scrubber: Scrubber) -> None:
        self.path = path
        self.requests = 0
        self._left = list(recording.exchanges)
        self._count = len(recording.exchanges)
        self._cut = recording.cut
        self._scrubber = scrubber
        self._diverged: ReplayDiverged | None = None

    @property
    def remaining(self) -> int:
        """How many recorded exchanges were not asked for yet."""
        return len(self._left)

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """The recorded reply, or the recorded error. Raises ReplayDiverged for another request."""
        number, exchange = self._take(plain_request(messages, tools, model, settings, self._scrubber))
        _refuse(exchange, number)
        return exchange.reply or _put_together(exchange)

    async def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[ProviderEvent]:
        """The recorded events, then the reply or the error. Raises ReplayDiverged for another request."""
        number, exchange = self._take(plain_request(messages, tools, model, settings, self._scrubber))
        if exchange.reply is not None and not exchange.streamed:
            for event in deltas(exchange.reply):
                yield event
        for event in exchange.events:
            yield event
        _refuse(exchange, number)
        if exchange.reply is not None:
            yield exchange.reply

    def assert_finished(self) -> None:
        """Raise ReplayDiverged when a request was another one, or recorded ones never came."""
        if self._diverged is not None:
            raise self._diverged
        if self._left:
            raise ReplayDiverged(
                f"{self.path.name}: {self.requests} of {self._count} recorded requests were made; the first of "
                f"the others ended with {_shown(_last_words(self._left[0].request))}",
                request=self.requests + 1,
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.assert_finished()

    def _take(self, request: dict[str, Any]) -> tuple[int, Exchange]:
        self.requests += 1
        for place, exchange in enumerate(self._left):
            if next(_differences(exchange.request, request), None) is None:
                return self.requests, self._left.pop(place)
        self._diverged = self._diverged or self._divergence(request)
        raise self._diverged

    def _divergence(self, request: dict[str, Any]) -> ReplayDiverged:
        number = self.requests
        if not self._left:
            why = ", and its last line is cut" if self._cut else ""
            return ReplayDiverged(
                f"{self.path.name} has {self._count} exchanges{why}, and this is request {number}, which ends with "
                f"{_shown(_last_words(request))}",
                request=number,
            )
        field, recorded, asked = next(_differences(self._left[0].request, request))
        recorded, asked = _around(recorded, asked)
        return ReplayDiverged(
            f"request {number} is not the one in {self.path.name}: {field} was {recorded} and is {asked}",
            request=number,
            field=field,
        )


def _refuse(exchange: Exchange, number: int) -> None:
    """Raise what the exchange ended with, if that was no reply."""
    if exchange.error is not None:
        raise exchange.error.raised()
    if exchange.abandoned:
        raise ReplayDiverged(
            f"whoever made request {number} when it was recorded went away before the reply: there is none to give",
            request=number,
        )


def _put_together(exchange: Exchange) -> ChatResponse:
    builder = ReplyBuilder(exchange.request.get("model") or "")
    for event in exchange.events:
        builder.add(event)
    return builder.build()


# --- comparing ----------------------------------------------------------------------------------------


def _differences(recorded: Any, asked: Any, field: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every field in which two plain values differ, in the order of the recorded one."""
    if is_dict(recorded) and is_dict(asked):
        for name in (*recorded, *(name for name in asked if name not in recorded)):
            below = f"{field}.{name}" if field else str(name)
            yield from _differences(recorded.get(name), asked.get(name), below)
    elif is_list(recorded) and is_list(asked):
        for place, (one, other) in enumerate(zip(recorded, asked, strict=False)):
            yield from _differences(one, other, f"{field}[{place}]")
        if len(recorded) != len(asked):
            place = min(len(recorded), len(asked))
            rest = [*recorded[place:], None], [*asked[place:], None]
            yield f"{field}[{place}]", rest[0][0], rest[1][0]
    elif isinstance(recorded, str) and isinstance(asked, str):
        if not _same_text(recorded, asked):
            yield field, recorded, asked
    elif recorded != asked or isinstance(recorded, bool) != isinstance(asked, bool):
        yield field, recorded, asked


def _same_text(recorded: str, asked: str) -> bool:
    if recorded == asked or _GIVEN not in recorded:
        return recorded == asked
    first, *middle, last = recorded.split(_GIVEN)
    if len(asked) < len(first) + len(last) or not (asked.startswith(first) and asked.endswith(last)):
        return False
    at, end = len(first), len(asked) - len(last)
    for piece in middle:
        at = asked.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _around(recorded: Any, asked: Any) -> tuple[str, str]:
    """Two values as they are told: of long texts what stands where they begin to differ."""
    if isinstance(recorded, str) and isinstance(asked, str):
        pairs = enumerate(zip(recorded, asked, strict=False))
        differ = next((at for at, (one, other) in pairs if one != other), min(len(recorded), len(asked)))
        start = max(0, differ - _SHOWN // 4)
        return _shown(recorded, start), _shown(asked, start)
    return _shown(recorded), _shown(asked)


def _shown(value: Any, start: int = 0) -> str:
    if value is None:
        return "nothing"
    if not isinstance(value, str):
        text = repr(value)
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    piece = value[start : start + _SHOWN]
    return ("..." if start else "") + repr(piece) + ("..." if start + _SHOWN < len(value) else "")


def _last_words(request: dict[str, Any]) -> Any:
    messages = request.get("messages")
    return messages[-1] if messages else None
