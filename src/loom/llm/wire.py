"""What every model service on HTTP has in common: one POST, retried, decoded, folded into one reply.

A wire is a subclass that says three things: where to post, what the body is, and how to read a reply. The
reading is a decoder without I/O (``ReplyDecoder``), the same for a whole reply and for a stream, so that
both give the same message. Here is no vendor's format.
"""

from __future__ import annotations

import asyncio
import random
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self
from urllib.parse import urlsplit, urlunsplit

from ..errors import ConfigError, LoomError, MalformedReplyError
from ..types import ChatMessage, ChatResponse, ToolSpec
from .base import LLMProvider, ModelSettings, ProviderEvent
from .failures import FailureReader
from .redact import Hidden, Scrubber
from .retry import RetryPolicy
from .sse import SSEReader

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from .http import HTTPClient, Reply

MAX_REPLY_BYTES = 64 * 1024 * 1024
# How long a service may keep a finished stream open before we stop being polite: reading on to the end
# lets the connection be used again, but nobody should wait for it.
_END_OF_STREAM_SECONDS = 0.05
_SECRET_HEADER_WORDS = ("auth", "key", "token", "secret", "cookie")


class ReplyDecoder(Protocol):
    """Reads one reply. ``feed`` and ``whole`` return the events to pass on, ``finish`` the reply."""

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
    """A request ready to send, and the maker of decoders for its replies (one a try)."""

    body: bytes
    decoder: Callable[[], ReplyDecoder]


class HTTPProvider(LLMProvider):
    """A model service behind one HTTP endpoint.

    ``timeout`` is the longest silence in seconds, and for a reply asked for in one piece the longest wait
    for it; ``total_timeout`` bounds a whole exchange. ``headers`` are sent besides the wire's own.
    ``sleep`` and ``rand`` exist so that tests need not wait. Raises ConfigError for a base URL or a key that
    cannot be used.
    """

    path: str
    """Where to post, below the base URL."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        default_model: str,
        timeout: float | None,
        *,
        max_retries: int = 2,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float | None = 10.0,
        total_timeout: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.default_model = default_model
        self.base_url = base_url.rstrip("/")
        self._url = _endpoint(base_url, self.path)
        self.timeout = timeout
        self._api_key = Hidden(clean_key(api_key))
        self._extra_headers = Hidden(dict(headers or {}))
        self._limits = (connect_timeout, total_timeout)
        self._retry = RetryPolicy(max_retries, rand=rand)
        self._sleep = sleep
        self._failures = FailureReader(urlsplit(base_url).netloc, Scrubber(self._secrets()))
        self._client: HTTPClient | None = None
        self._sent_headers: Hidden[CIMultiDict[str]] | None = None

    # --- what a wire says -------------------------------------------------------------------------

    @abstractmethod
    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        """The headers that carry the key and whatever else the service wants in every request."""

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

    @property
    def api_key(self) -> str | None:
        """The key, for whoever builds another provider like this one. It is in no repr and no error."""
        return self._api_key.reveal()

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """Ask once and return the whole reply. Raises ProviderError or ContextOverflowError."""
        outgoing = await self._request(messages, tools, model or self.default_model, settings, False)
        attempt = 0
        while True:
            try:
                return await self._ask(outgoing)
            except LoomError as error:
                delay = self._retry.delay(error, attempt)
                if delay is None:
                    raise
            attempt += 1
            await self._sleep(delay)

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
        outgoing = await self._request(messages, tools, model or self.default_model, settings, True)
        client, headers = self._ready()
        attempt = 0
        while True:
            shown = False
            reply: Reply | None = None
            try:
                reply = await client.post(headers, outgoing.body, stream=True)
                decoder = outgoing.decoder()
                if _comes_whole(reply):
                    for event in decoder.whole(await client.read(reply, MAX_REPLY_BYTES)):
                        shown = True
                        yield event
                else:
                    reader, size = SSEReader(), 0
                    while not decoder.done and (chunk := await client.next_bytes(reply)):
                        size += len(chunk)
                        self._check_size(size)
                        for name, line in reader.feed(chunk):
                            for event in decoder.feed(name, line):
                                shown = True
                                yield event
                    for name, line in reader.close() if not decoder.done else ():
                        for event in decoder.feed(name, line):
                            shown = True
                            yield event
                response = decoder.finish()
                await _read_to_end(client, reply)
                yield response
                return
            except LoomError as error:
                delay = None if shown else self._retry.delay(error, attempt)
                if delay is None:
                    raise
            finally:
                if reply is not None:
                    reply.close()
            attempt += 1
            await self._sleep(delay)

    async def aclose(self) -> None:
        """Let go of connections. Safe to call twice; the provider can be used again."""
        if self._client is not None:
            await self._client.release()

    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        shown = urlunsplit(urlsplit(self.base_url)._replace(query=""))
        return f"{type(self).__name__}(base_url={shown!r}, default_model={self.default_model!r})"

    # --- inside -----------------------------------------------------------------------------------

    async def _ask(self, outgoing: Outgoing) -> ChatResponse:
        client, headers = self._ready()
        reply = await client.post(headers, outgoing.body, stream=False)
        try:
            body = await client.read(reply, MAX_REPLY_BYTES)
        finally:
            reply.close()
        decoder = outgoing.decoder()
        decoder.whole(body)
        return decoder.finish()

    def _ready(self) -> tuple[HTTPClient, CIMultiDict[str]]:
        if self._client is None or self._sent_headers is None:
            # Imported here: aiohttp is most of the cost of importing us, and many never ask a service.
            from multidict import CIMultiDict

            from .http import HTTPClient

            connect, total = self._limits
            headers = CIMultiDict(
                {
                    "Content-Type": "application/json",
                    "Accept": "application/json, text/event-stream",
                    "User-Agent": "loom-agent",
                    **self._auth_headers(self._api_key.reveal()),
                }
            )
            headers.update(self._extra_headers.reveal())
            self._sent_headers = Hidden(headers)
            self._client = HTTPClient(
                self._url, self._failures, timeout=self.timeout, connect_timeout=connect, total_timeout=total
            )
        return self._client, self._sent_headers.reveal()

    def _secrets(self) -> list[str]:
        """Everything in our requests that must not come back in a text: keys, and header values like keys."""
        secrets = [self._api_key.reveal() or ""]
        for name, value in self._extra_headers.reveal().items():
            if any(word in name.lower() for word in _SECRET_HEADER_WORDS):
                secrets += [value, *value.split(" ", 1)[1:]]
        query = urlsplit(self._url).query
        secrets += [pair.partition("=")[2] for pair in query.split("&") if "key" in pair.partition("=")[0]]
        return secrets

    def _check_size(self, size: int) -> None:
        if size > MAX_REPLY_BYTES:
            raise MalformedReplyError(f"the stream is longer than {MAX_REPLY_BYTES} bytes; it was dropped")


def _comes_whole(reply: Reply) -> bool:
    """Whether a reply to a streaming request ignores that and comes as one JSON document."""
    kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in ("application/json", "text/html")


async def _read_to_end(client: HTTPClient, reply: Reply) -> None:
    if reply.content.at_eof():
        return
    try:
        async with asyncio.timeout(_END_OF_STREAM_SECONDS):
            while await client.next_bytes(reply):
                pass
    except (LoomError, TimeoutError):
        pass  # the reply is complete; only the connection is lost, and closing it is the caller's next line


def _endpoint(base_url: str, path: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"base_url must be an http or https address, not {_shown(base_url)!r}")
    if parts.username or parts.password:
        raise ConfigError("base_url must not carry a user or password; pass the key as api_key")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path, fragment=""))


def _shown(url: str) -> str:
    return url.split("?")[0].rpartition("@")[2][:200]


def clean_key(api_key: str | None) -> str | None:
    """The key without the white space that copying brings. Raises ConfigError, without showing the key."""
    if api_key is None:
        return None
    api_key = api_key.strip()
    if not (api_key.isascii() and api_key.isprintable()):
        raise ConfigError("the API key holds characters that no header can carry; copy it again")
    return api_key or None
