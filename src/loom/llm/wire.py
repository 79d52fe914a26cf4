"""What every model service on HTTP has in common: one POST, retried, decoded, folded into one reply.

A wire is a subclass that says two things: what a request is, and how to read a reply. The reading is a
decoder without I/O (``ReplyDecoder``), the same for a whole reply and for a stream, so that both give the
same message. Here is no vendor's format.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, Unpack
from urllib.parse import urlsplit, urlunsplit

from ..errors import InvalidRequestError, LoomError
from ..types import ChatMessage, ChatResponse, ToolSpec
from .base import LLMProvider, ModelSettings, ProviderEvent
from .failures import named
from .halves import Halves
from .history import repaired
from .service import MAX_REPLY_BYTES, HTTPService, ServiceOptions
from .sse import SSEReader
from .turns import Turn

if TYPE_CHECKING:
    from .http import HTTPClient, Reply

# How long a service may keep a finished stream open before we stop being polite: reading on to the end
# lets the connection be used again, but nobody should wait for it.
_END_OF_STREAM_SECONDS = 0.05
# How long we listen on when a reply is whole, but its wire has no word for that being all.
_AFTERWORD_SECONDS = 1.0


class ReplyDecoder(Protocol):
    """Reads one reply. ``feed`` and ``whole`` return the events to pass on, ``finish`` the reply.

    On a wire without a last event ``done`` stays False. Its decoder has ``ending``, too: True when the reply is
    whole as it stands, so that a connection that is lost or kept open from then on does not spoil it.
    """

    done: bool

    def feed(self, name: bytes, data: bytes, /) -> Sequence[ProviderEvent]:
        """Take one server-sent event. Sets ``done`` when the service said that it was the last."""
        ...

    def whole(self, body: bytes, /) -> Sequence[ProviderEvent]:
        """Take a reply that came in one piece."""
        ...

    def finish(self) -> ChatResponse:
        """The reply, after the last event. Raises MalformedReplyError when it is not complete."""
        ...


class Outgoing(NamedTuple):
    """A request ready to send, and the maker of decoders for its replies (one a try).

    ``instead`` is asked when the service refuses the request: it may write another that says the same in a way
    the service takes, or None.
    """

    url: str
    body: bytes
    decoder: Callable[[], ReplyDecoder]
    instead: Callable[[InvalidRequestError], Awaitable[Outgoing | None]] | None = None

    def read(self, body: bytes) -> ChatResponse:
        """The reply in ``body``, which came in one piece."""
        decoder = self.decoder()
        decoder.whole(body)
        return decoder.finish()


class HTTPProvider(HTTPService, LLMProvider):
    """A model service on HTTP; ``default_model`` answers where no other is asked for. See ``HTTPService``."""

    heeds_cancel = True

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        default_model: str,
        timeout: float | None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(base_url, api_key, timeout, **service)
        self.default_model = default_model

    @abstractmethod
    async def _request(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] | None,
        model: str,
        settings: ModelSettings | None,
        stream: bool,
    ) -> Outgoing:
        """Encode a request."""

    # --- the port ---------------------------------------------------------------------------------

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """Ask and return the whole reply. Raises ProviderError or ContextOverflowError.

        That is one request, unless the service pauses its reply and wants to be asked on.
        """
        turn = _turn(messages, settings)
        outgoing = await self._request(turn.messages, tools, model or self.default_model, settings, False)
        patience = self._patience()
        while True:
            try:
                reply = await self.exchange(outgoing.url, outgoing.body, outgoing.read, patience)
            except InvalidRequestError as error:
                other = await _instead(outgoing, error)
                if other is None:
                    raise
                outgoing = other
                continue
            if (whole := turn.add(reply)) is not None:
                return whole
            outgoing = await self._request(turn.messages, tools, model or self.default_model, settings, False)

    async def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[ProviderEvent]:
        """Ask once and yield the reply as it comes; the last event is the whole ``ChatResponse``.

        Failures before the first event are retried, later ones never. Closing the generator closes the
        connection. Raises as ``chat`` does.
        """
        turn = _turn(messages, settings)
        outgoing = await self._request(turn.messages, tools, model or self.default_model, settings, True)
        client, headers = self._ready()
        patience = self._patience()
        async with self._gate.passage():
            while True:
                shown = False
                reply: Reply | None = None
                other: Outgoing | None
                try:
                    reply = await client.post(
                        outgoing.url, headers, outgoing.body, stream=True, within=patience.left()
                    )
                    decoder, halves = outgoing.decoder(), Halves()
                    if _comes_whole(reply):
                        for event in halves.joined(decoder.whole(await client.read(reply, MAX_REPLY_BYTES))):
                            shown = True
                            yield event
                    else:
                        reader, size = SSEReader(), 0
                        while not decoder.done and (chunk := await _next_bytes(client, reply, decoder)):
                            size += len(chunk)
                            self._check_size(size)
                            for name, line in reader.feed(chunk):
                                for event in halves.joined(decoder.feed(name, line)):
                                    shown = True
                                    yield event
                                if decoder.done:
                                    break
                        for name, line in reader.close() if not decoder.done else ():
                            for event in halves.joined(decoder.feed(name, line)):
                                shown = True
                                yield event
                    response = decoder.finish()
                    for event in halves.rest():
                        yield event
                    await _read_to_end(client, reply)
                    if (whole := turn.add(response)) is not None:
                        yield whole
                        return
                    delay = None
                    other = await self._request(
                        turn.messages, tools, model or self.default_model, settings, True
                    )
                except LoomError as error:
                    other = None if shown else await _instead(outgoing, error)
                    delay = None if shown or other else patience.delay(error)
                    if delay is None and other is None:
                        if reply is not None:
                            named(error, reply.headers)
                        raise
                finally:
                    if reply is not None:
                        reply.close()
                if delay is not None:
                    await self._sleep(delay)
                outgoing = other or outgoing

    def __repr__(self) -> str:
        shown = urlunsplit(urlsplit(self.base_url)._replace(query=""))
        return f"{type(self).__name__}(base_url={shown!r}, default_model={self.default_model!r})"


def _turn(messages: Sequence[ChatMessage], settings: ModelSettings | None) -> Turn:
    return Turn(repaired(messages), shaped=settings is not None and settings.output_schema is not None)


async def _instead(outgoing: Outgoing, error: LoomError) -> Outgoing | None:
    """What to send after ``error``, when the service refused the request and there is a way around that."""
    if outgoing.instead is None or not isinstance(error, InvalidRequestError):
        return None
    return await outgoing.instead(error)


def _comes_whole(reply: Reply) -> bool:
    """Whether a reply to a streaming request ignores that and comes as one JSON document."""
    kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in ("application/json", "text/html")


async def _next_bytes(client: HTTPClient, reply: Reply, decoder: ReplyDecoder) -> bytes:
    """Whatever came next; ``b""`` at the end, or when nothing more is needed and nothing comes."""
    # guard: tests/llm/test_wire_socket.py
    if not getattr(decoder, "ending", False):
        return await client.next_bytes(reply)
    try:
        async with asyncio.timeout(_AFTERWORD_SECONDS):
            return await client.next_bytes(reply)
    except (LoomError, TimeoutError):
        return b""


async def _read_to_end(client: HTTPClient, reply: Reply) -> None:
    if reply.content.at_eof():
        return
    try:
        async with asyncio.timeout(_END_OF_STREAM_SECONDS):
            while await client.next_bytes(reply):
                pass
    except (LoomError, TimeoutError):
        pass  # the reply is complete; only the connection is lost, and closing it is the caller's next line
